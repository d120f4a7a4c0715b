//! Encryption in transit: a local port that carries the kernel's NFS client to the file system
//! over TLS, and what a session start asks of it. Mounts nothing.
//!
//! `serve` is the tunnel: it lets in whom `peer` admits, has `outer` dial and `identity` make the
//! client's certificate, and `relay` carries the data through a `tls` session. `broker` hands
//! credentials to it, which has no rights of its own; `aws` is what both ask of AWS, and `key` keeps the
//! RSA key. `protocol` is how
//! others speak to a tunnel, `unit` how they start it, and `port` where it listens, and `budget`
//! how much is logged of it.

pub mod aws;
pub mod broker;
pub mod broker_process;
pub mod budget;
pub mod buffer;
pub mod contract;
pub mod error;
pub mod identity;
pub mod instance;
pub mod key;
pub mod listeners;
pub mod locks;
pub mod outer;
pub mod peer;
pub mod port;
pub mod protocol;
pub mod records;
pub mod relay;
pub mod run_files;
pub mod serve;
pub mod tls;
pub mod unit;
pub mod units;
pub mod user;

#[cfg(test)]
#[path = "../../tests/common/tls.rs"]
#[allow(dead_code, missing_docs)]
mod standin;
