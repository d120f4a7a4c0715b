//! A role for the owner of a token, which somebody else keeps fresh in a file (OpenID Connect).

use super::files;
use crate::aws::error::AwsError;
use crate::aws::secret::{Credentials, Secret};
use crate::aws::sts::{self, Role, SESSION_NAME};
use crate::aws::world::World;
use crate::retry::Deadline;
use std::path::Path;

const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE: &str = "AWS_ROLE_ARN";

/// The credentials of the role that the environment names, if it names a token.
///
/// # Errors
/// Why the token does not lead to credentials.
pub fn credentials(
    region: &str,
    world: &World<'_>,
    until: Deadline,
) -> Result<Option<Credentials>, AwsError> {
    let environment = world.environment;
    let Some(file) = environment.get(TOKEN_FILE) else { return Ok(None) };
    let arn = environment.get(ROLE).ok_or(AwsError::MissingVariable(TOKEN_FILE, ROLE))?;

    let session = environment.get("AWS_ROLE_SESSION_NAME").map_or(SESSION_NAME, Secret::expose);
    let role = Role { arn: arn.expose(), session, external_id: None, duration: None };
    assume(&role, Path::new(file.expose()), region, world, until).map(Some)
}

/// The credentials of `role`, for the token in `file`.
///
/// # Errors
/// Why the token cannot be read, or what STS said.
pub fn assume(
    role: &Role<'_>,
    file: &Path,
    region: &str,
    world: &World<'_>,
    until: Deadline,
) -> Result<Credentials, AwsError> {
    let token = files::token(file, world)?;
    match sts::assume_with_token(role, &token, region, world, until) {
        Ok(credentials) => {
            let source = format!("role {} by a web identity", role.arn);
            Ok(Credentials { source, ..credentials })
        }
        Err(error) => {
            let (arn, error) = (role.arn.to_owned(), Box::new(error));
            Err(AwsError::Role { arn, by: None, renewed: false, error })
        }
    }
}
