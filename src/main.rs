//! Hands the arguments to `commands::run` and ends with its exit code. Nothing else lives here.

// std's start-up makes a dozen system calls before main. `entry!` does only the part that is
// needed.
#![cfg_attr(not(test), no_main)]

use dlmalloc::GlobalDlmalloc;

/// musl's own allocator asks the kernel for memory, and returns it, dozens of times in one start.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

#[cfg(not(test))]
efs_agent::entry!(efs_agent::commands::run);
