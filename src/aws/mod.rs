//! All that is AWS's: the client certificate that EFS asks for, signatures, credentials and their sources, trusted
//! authorities, and the two APIs that are asked. Shares, their config and tunnels are not known here.
//!
//! Files, the network, clocks and variables come in as a [`World`].

pub mod algorithms;
pub mod certificate;
pub mod credentials;
mod der;
mod document;
mod error;
pub mod http;
mod metadata;
pub mod mount_targets;
pub mod profile;
mod remedy;
pub mod secret;
mod service;
pub mod signature;
mod sts;
pub mod trust;
mod world;

pub use world::{ENVIRONMENT, Endpoints, Environment, Metadata, World};

/// The profile that AppStream makes for the role of a fleet or an image builder.
pub const APPSTREAM_PROFILE: &str = "appstream_machine_role";

/// Where the program of a `credential_process` is looked for, and where it looks for others.
const PROGRAM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
