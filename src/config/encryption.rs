//! How a share is encrypted in transit: the types of what the config says. `checked` decides which keys go together.

pub use super::lines::MAIN;

use super::names::is_dns_name;
use super::paths::absolute;
use crate::text::misleads;
use std::path::PathBuf;

/// Only root can listen at ports below this one, and connect from them.
pub const RESERVED: u16 = 1024;

/// How a share is encrypted on its way, and who we are to the file system.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Encryption {
    /// `fs-` and 8 or 17 hex digits.
    pub file_system_id: String,
    /// Its ARN, if `file_system_id` says that. EFS's API needs it for a file system of another account.
    pub file_system_arn: Option<String>,
    /// The file system's region, like `eu-west-1`.
    pub region: String,
    /// The name that the server's certificate must have. It is also sent to the server (SNI).
    pub tls_name: String,
    /// Whether we sign in with AWS credentials.
    pub iam: bool,
    /// `fsap-` and 17 hex digits.
    pub access_point: Option<String>,
    /// Whose credentials are used. Without it, they are the first that are found.
    pub aws_profile: Option<String>,
    /// Whether credentials are looked for in AWS's environment variables, too.
    pub aws_environment: bool,
    /// Who may have signed the server's certificate.
    pub trust: TrustSource,
    /// Whether AWS is asked for the mount targets if the name does not resolve.
    pub discover: bool,
    /// The local port of the tunnel. Without it, a free one is chosen.
    pub tunnel_port: Option<u16>,
}

impl Encryption {
    /// Stands for the encryption of a share whose tunnel runs, but whose config is not known. It is enough to ask the
    /// tunnel, and to end it. No tunnel is started with it, since a tunnel reads the config.
    pub fn of_a_tunnel_that_runs() -> Self {
        Self::default()
    }
}

/// The roots that a server's certificate must lead to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TrustSource {
    /// Amazon's public roots, which are in the program.
    #[default]
    Amazon,
    /// The roots that the system trusts.
    System,
    /// The roots in this PEM file.
    File(PathBuf),
}

pub(super) fn tls_name_from(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or("");
    let fits = is_dns_name(&name)
        && !last.bytes().all(|b| b.is_ascii_digit())
        && !name.split('.').any(|label| label.ends_with('-'));
    match fits {
        true => Ok(name),
        false => Err("is no DNS name: write it as the server's certificate has it".into()),
    }
}

pub(super) fn profile_from(text: &str) -> Result<(), String> {
    if text.is_empty()
        || text.len() > 128
        || text.trim() != text
        || text.contains(|c| misleads(c) || matches!(c, '[' | ']' | '#' | ';'))
    {
        return Err("is no name of a profile: write what stands in brackets in \
                    ~/.aws/credentials, or behind \"profile\" in ~/.aws/config"
            .into());
    }
    Ok(())
}

pub(super) fn trust_from(text: &str) -> Result<TrustSource, String> {
    match text {
        "amazon" => Ok(TrustSource::Amazon),
        "system" => Ok(TrustSource::System),
        path if path.starts_with('/') => absolute(path).map(TrustSource::File),
        _ => {
            Err("is neither \"amazon\" nor \"system\", nor the absolute path of a PEM file".into())
        }
    }
}

#[cfg(test)]
mod tests;
