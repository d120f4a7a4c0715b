//! Encryption in transit: a tunnel carries the kernel's NFS client from a local port to the file system, over TLS. This
//! room also starts, asks and ends tunnels. Nothing is mounted here.
//!
//! - What others see: `contract` (what a share asks), `error`, and `units`, which answers on a real machine.
//! - Starting and ending: `unit` (systemd), `instance` (names), `port`, `run_files`, `locks`.
//! - Asking: `protocol`, the control socket seen from both ends.
//! - The tunnel's process: `listeners`, `user`, and `serve`, which admits clients by `peer`, dials by `outer` and carries
//!   data by `relay`, `tls`, `records` and `buffer`. `budget` limits its log.
//! - Who it is to the file system: `identity`, `key`, and `broker` in its own process (`broker_process`), which asks
//!   AWS by `aws`.

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
