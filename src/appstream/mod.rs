//! All that is AppStream's: the user that sessions run as, and config.json, in
//! which the programs of a session's start and end are registered.

mod edit;
#[cfg(test)]
mod random;
pub mod registration;
pub(crate) mod session;
pub(crate) mod user;

pub use edit::{Edit, diff};
pub use session::Session;
pub use user::{STREAMING_USER, User, streaming_user};
