//! All that is AppStream's: the user that sessions run as, what it says about a session, and config.json. There the
//! programs of a session's start and end are registered. Nothing here mounts, prints or writes a file.

mod diff;
mod edit;
pub mod registration;
pub(crate) mod session;
pub(crate) mod user;

pub use diff::diff;
pub use edit::Edit;
pub use session::Session;
pub use user::{STREAMING_USER, User, streaming_user};
