//! Keys in environment variables. Which variables count is decided where the [`World`] is made.

use super::keys::flaw;
use crate::aws::error::{AwsError, CredentialSource};
use crate::aws::secret::Credentials;
use crate::aws::world::World;

const ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";

/// The keys in the environment, if it has any.
///
/// # Errors
/// What is wrong with them.
pub fn credentials(world: &World<'_>) -> Result<Option<Credentials>, AwsError> {
    let environment = world.environment;
    let Some(id) = environment.get(ID) else { return Ok(None) };
    let secret = environment.get(SECRET).ok_or(AwsError::MissingVariable(ID, SECRET))?;
    let token = environment.get(TOKEN);

    for (name, value) in [(ID, Some(id)), (SECRET, Some(secret)), (TOKEN, token)] {
        if let Some(what) = value.and_then(|value| flaw(value.expose(), name == ID)) {
            return Err(AwsError::BadVariable(name, what));
        }
    }
    Ok(Some(Credentials {
        access_key_id: id.expose().to_owned(),
        secret_access_key: secret.clone(),
        session_token: token.cloned(),
        expires: None,
        source: CredentialSource::Environment.to_string(),
    }))
}
