//! The rooms of efs-agent, and who may call whom.
//!
//! Imports go down only:
//!
//! ```text
//! main → cli → commands → tunnel → { share, appstream, report, status } → { aws, config, log }
//!      → { json, retry, stop } → { files, partitions, sys, text }
//!      → { json, programs } → { retry, stop } → { files, sys, text }
//! ```
//!
//! But for two edges: `share` knows what a tunnel is asked and answers (`tunnel::protocol`), and a tunnel
//! looks for its file system as a mount does (`net::names`, `net::reach`), so that between files the
//! way is down there too.
//!
//! A module never imports from one above it, and `sys` is the only place with
//! `unsafe` code. What a step needs of the outside world (clock, machine, root
//! directory, log) is handed to it as an argument, so the same pipeline runs
//! under a virtual clock in unit tests and on a real kernel.

#![deny(unsafe_code)]
// A sum of times that overflows ends the program (clippy.toml leaves numbers out). Tests may add as they like.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod appstream;
pub mod aws;
pub mod cli;
pub mod commands;
pub mod config;
pub mod files;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod installed;
pub mod json;
pub mod kernel;
pub mod log;
pub mod net;
pub mod partitions;
pub mod programs;
pub mod report;
pub mod retry;
pub mod share;
pub mod status;
pub mod stop;
pub mod sys;
pub mod text;
pub mod tunnel;
pub mod wait;
