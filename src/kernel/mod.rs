//! What the kernel says about this machine: its mounts, their connections, who has files open,
//! modules and routes. Everything here reads; nothing here mounts, writes or decides.

pub mod connections;
pub mod holders;
pub mod modules;
pub mod mount_table;
pub mod namespace;
pub mod route;
