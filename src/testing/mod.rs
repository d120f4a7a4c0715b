//! What only tests use: scripted machines, simulations and long runs. It may reach into every room, and nothing that
//! ships knows of it.

pub mod fake_machine;
mod simulation;
mod soak;
