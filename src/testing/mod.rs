//! What only tests and fuzzing use: scripted machines, simulations and long runs. It may reach into every room, and
//! nothing that ships may reach into it.

#[cfg(test)]
pub mod fake_machine;
pub mod fuzz;
#[cfg(test)]
pub mod names;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod soak;
