//! The rooms (modules) of efs-agent, and which of them may import which.
//!
//! Each line below is one floor. A room imports from lower lines only, and the rooms on one line do
//! not import each other. A test (`floors`) reads the imports of src and holds this picture.
//!
//! ```text
//! main
//! commands
//! cli, report
//! share
//! status, tunnel
//! aws, appstream, kernel, net
//! log
//! config
//! installed, json, partitions, programs
//! wait
//! files, stop
//! retry, sys, text
//! ```
//!
//! `sys` is the only place with `unsafe` code. The outside world (clock, machine, root directory,
//! log) reaches a step as arguments. So the same pipeline runs under a virtual clock in unit tests
//! and on a real kernel. Code that only tests use is in `testing`, which may reach into every room.

#![deny(unsafe_code)]
// A sum of times that overflows ends the program, so it must be checked or saturating. clippy.toml
// exempts plain numbers, and tests may add as they like.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod appstream;
pub mod aws;
pub mod cli;
pub mod commands;
pub mod config;
pub mod files;
#[cfg(test)]
mod floors;
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
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod testing;
pub mod text;
pub mod tunnel;
pub mod wait;
