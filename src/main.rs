//! Arguments in, exit code out. Nothing else lives here.

// What std does before main costs a dozen system calls; `entry!` does what of that we need.
#![cfg_attr(not(test), no_main)]

use dlmalloc::GlobalDlmalloc;

/// musl's own asks the kernel for memory, and gives it back, dozens of times in a start.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

#[cfg(not(test))]
efs_agent::entry!(efs_agent::commands::run);
