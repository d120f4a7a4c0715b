//! What only tests and fuzzing use: scripted machines, simulations, long runs, made-up input. It
//! may reach into every room, and nothing that ships may reach into it.

#[cfg(test)]
pub(crate) mod fake_machine;
pub mod fuzz;
#[cfg(test)]
pub mod names;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod soak;
