//! The credentials that a profile leads to: its own keys, a program, or a role for which another source signs. Reading
//! the files of profiles is not done here.

use super::files::{KEY_ID, MergedProfile, ProfileFiles, SECRET_KEY};
use super::keys::with_access_key;
use super::{container, environment, process, web_identity};
use crate::aws::APPSTREAM_PROFILE;
use crate::aws::error::AwsError;
use crate::aws::secret::{Credentials, Secret};
use crate::aws::sts::{self, Role, SESSION_NAME};
use crate::aws::world::World;
use crate::aws::{document, metadata};
use crate::retry::Deadline;
use std::path::Path;

/// The keys of a session token; the second is the former name of the first.
const TOKENS: [&str; 2] = ["aws_session_token", "aws_security_token"];
/// The keys for the end of a session. They are written by tools that get keys for a person: saml2aws and many after it,
/// and aws-azure-login.
const EXPIRES: [&str; 2] = ["x_security_token_expires", "aws_expiration"];

/// What is needed to follow profiles to their credentials.
pub struct ProfileResolver<'a> {
    pub files: &'a ProfileFiles,
    /// The region whose STS is asked.
    pub region: &'a str,
    pub world: &'a World<'a>,
    pub until: Deadline,
}

impl ProfileResolver<'_> {
    /// The credentials of the profile `name`.
    ///
    /// # Errors
    /// Why it leads to none.
    pub fn credentials(&self, name: &str) -> Result<Credentials, AwsError> {
        self.follow(name, &mut Vec::new())
    }

    /// The credentials that the profile `name` leads to. `dependants` are the profiles that need it. It must not be
    /// among them, unless its own keys come first.
    fn follow(&self, name: &str, dependants: &mut Vec<String>) -> Result<Credentials, AwsError> {
        let Some(profile) = self.files.profile(name)? else {
            return Err(self.files.unread().unwrap_or_else(|| self.files.missing(name)));
        };

        // As in AWS's own tools: the keys beside a role are for profiles that name this one as their source, itself
        // among them.
        let keys_first = !dependants.is_empty() && profile.get(KEY_ID).is_some();
        if dependants.iter().any(|dependant| dependant == name) && !keys_first {
            return Err(AwsError::Circle(name.to_owned()));
        }
        if let Some(arn) = profile.get("role_arn")
            && !keys_first
        {
            dependants.push(name.to_owned());
            return self.assume(&profile, arn, dependants);
        }

        match (profile.get(KEY_ID), profile.get(SECRET_KEY)) {
            (Some(id), Some(secret)) => self.own_keys(&profile, id, secret),
            (Some(_), None) => Err(AwsError::MissingKey(KEY_ID, SECRET_KEY)),
            (None, Some(_)) => Err(AwsError::MissingKey(SECRET_KEY, KEY_ID)),
            (None, None) => {
                let Some(line) = profile.get("credential_process") else {
                    return Err(profile.lacks_keys());
                };
                let printed = process::run(line, &self.files.home, self.world, self.until)?;
                let source = format!("{} ({})", profile.place(), printed.source);
                Ok(Credentials { source, ..printed })
            }
        }
    }

    /// The keys in the profile itself.
    fn own_keys(
        &self,
        profile: &MergedProfile<'_>,
        id: &str,
        secret: &str,
    ) -> Result<Credentials, AwsError> {
        let token = TOKENS.into_iter().find(|key| profile.get(key).is_some());
        profile.check_keys(token)?;

        let now = (self.world.now)();
        for key in EXPIRES {
            let expired = profile.get(key).and_then(document::time).filter(|at| *at <= now);
            if let (Some(expired), Some((file, _))) = (expired, profile.file_of(key)) {
                return Err(AwsError::OldKeys { path: file.path.clone(), key, expired, now });
            }
        }

        Ok(Credentials {
            access_key_id: id.to_owned(),
            secret_access_key: Secret::new(secret.to_owned()),
            session_token: token
                .and_then(|key| profile.get(key))
                .map(|token| Secret::new(token.to_owned())),
            expires: None,
            source: profile.place(),
        })
    }

    /// The credentials of the role that the profile names.
    fn assume(
        &self,
        profile: &MergedProfile<'_>,
        arn: &str,
        dependants: &mut Vec<String>,
    ) -> Result<Credentials, AwsError> {
        if profile.get("mfa_serial").is_some() {
            return Err(AwsError::Unsupported("mfa_serial", "needs a person who types a code"));
        }

        let role = Role {
            arn,
            session: profile.get("role_session_name").unwrap_or(SESSION_NAME),
            external_id: profile.get("external_id"),
            duration: profile.get("duration_seconds"),
        };

        if let Some(file) = profile.get("web_identity_token_file") {
            return web_identity::assume(
                &role,
                Path::new(file),
                self.region,
                self.world,
                self.until,
            );
        }

        let (signer, by) = self.signer(profile, dependants)?;
        let now = (self.world.now)();
        if let Some(expired) = signer.expires.filter(|expires| *expires <= now) {
            return Err(AwsError::Expired { by, expired });
        }

        match sts::assume(&role, &signer, self.region, self.world, self.until) {
            Ok(credentials) => {
                Ok(Credentials { source: format!("role {arn} by {by}"), ..credentials })
            }
            Err(error) => Err(AwsError::Role {
                arn: arn.to_owned(),
                by: Some(with_access_key(&by, &signer.access_key_id)),
                renewed: signer.expires.is_some()
                    || profile.get("source_profile") == Some(APPSTREAM_PROFILE),
                error: Box::new(error),
            }),
        }
    }

    /// The credentials that sign for the role of a profile, and where they come from, in words.
    fn signer(
        &self,
        profile: &MergedProfile<'_>,
        dependants: &mut Vec<String>,
    ) -> Result<(Credentials, String), AwsError> {
        if let Some(name) = profile.get("source_profile") {
            let signer = self.follow(name, dependants).map_err(|error| match error {
                circle @ AwsError::Circle(_) => circle,
                other => AwsError::Source { name: name.to_owned(), error: Box::new(other) },
            })?;
            return Ok((signer, format!("source profile {name:?}")));
        }

        let Some(source) = profile.get("credential_source") else {
            let lacks = "source_profile or credential_source";
            return Err(AwsError::MissingKey("role_arn", lacks));
        };

        Ok((self.named_source(source)?, format!("credential_source {source}")))
    }

    /// The credentials of the source that `credential_source` names.
    fn named_source(&self, source: &str) -> Result<Credentials, AwsError> {
        match source {
            "Environment" => environment::credentials(self.world)?
                .ok_or(AwsError::MissingSource("Environment", "AWS_ACCESS_KEY_ID")),
            "EcsContainer" => match container::place(self.world)? {
                Some(url) => container::fetch(&url, self.world, self.until),
                None => Err(AwsError::MissingSource("EcsContainer", "AWS_CONTAINER_CREDENTIALS_…")),
            },
            "Ec2InstanceMetadata" => metadata::credentials(self.world, self.until),
            _ => Err(AwsError::UnknownSource),
        }
    }
}
