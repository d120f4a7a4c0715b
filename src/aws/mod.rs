//! All that is AWS's: the client certificate that EFS asks for, signatures,
//! credentials and where they come from, the trust roots, and the two APIs that
//! are asked. Knows nothing of shares, of their config, or of tunnels.
//!
//! What it takes of the world is handed to it as a [`World`]: nothing here reads
//! an environment variable or looks a name up by itself.

pub mod certificate;
pub mod credentials;
mod der;
pub mod http;
mod metadata;
pub mod mount_targets;
pub mod profile;
pub mod secret;
pub mod signature;
mod sts;
pub mod trust;
mod world;

pub use metadata::Metadata;
pub use world::{Endpoints, Environment, World, dns_suffix};
