//! What only tests and fuzzing use. It may reach into every room, and nothing that ships may reach into it.

pub mod fuzz;
#[cfg(test)]
pub mod names;
