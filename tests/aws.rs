//! Credentials and mount targets against an implementation that is not ours: moto's instance metadata,
//! STS, IAM and EFS, on the loopback and by TLS, with every signature and permission checked. Does its
//! own set-up (tests/aws/setup.sh), which asks PyPI the first time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test file that clippy does not know as one

use efs_agent::aws::credentials::{Credentials, CredentialsError, Secret, Wanted, find};
use efs_agent::aws::http::{Net, Url, tls};
use efs_agent::aws::mount_targets::{self, MountTarget};
use efs_agent::aws::trust::{Trust, roots};
use efs_agent::aws::{Endpoints, Environment, Metadata, World};
use efs_agent::retry::Deadline;
use efs_agent::stop::{Stop, SystemClock};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The name that the certificate is for, and the resolver knows.
const NAME: &str = "aws.example";
/// Another name that the resolver knows.
const OTHER: &str = "other.example";

/// AWS, until its standard input closes, which is when we end.
struct Aws {
    _process: Child,
    facts: Value,
    /// Its certificate, and the folder that this is in.
    certificate: PathBuf,
    _folder: tempfile::TempDir,
}

fn aws() -> &'static Aws {
    static AWS: OnceLock<Aws> = OnceLock::new();
    AWS.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aws");
        let setup = Command::new(here.join("setup.sh")).stderr(Stdio::inherit()).output().unwrap();
        assert!(setup.status.success(), "tests/aws/setup.sh failed, as it says above");
        let python = String::from_utf8(setup.stdout).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let openssl = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x"])
            .args(["-addext", &format!("subjectAltName=DNS:{NAME}")])
            // One that is a root and a server's at once is refused.
            .args(["-addext", "basicConstraints=critical,CA:false"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
        let mut process = Command::new(python.trim())
            .arg(here.join("aws.py"))
            .args([&certificate, &key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let facts = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        Aws { _process: process, facts, certificate, _folder: folder }
    })
}

impl Aws {
    fn text(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap()
    }

    fn port(&self, name: &str) -> u64 {
        self.facts[name].as_u64().unwrap()
    }

    /// A profile with the keys of a user.
    fn profile(&self, name: &str, user: &str) -> String {
        let user = &self.facts[user];
        let (id, secret) = (user["id"].as_str().unwrap(), user["secret"].as_str().unwrap());
        format!("[{name}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
    }
}

/// Does `work` on a machine whose files of profiles are these, which trusts `trust` and reaches the APIs
/// under the name `host`.
fn on_a_machine<T>(
    profiles: &str,
    config: &str,
    host: &str,
    trust: Trust<'_>,
    work: impl FnOnce(&World<'_>, Deadline) -> T,
) -> T {
    let aws = aws();
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("root/.aws")).unwrap();
    fs::write(root.path().join("root/.aws/credentials"), profiles).unwrap();
    fs::write(root.path().join("root/.aws/config"), config).unwrap();
    fs::copy(&aws.certificate, root.path().join("trusted.pem")).unwrap();
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(Instant::now(), &stop);
    let resolve = |name: &str, _: Deadline| {
        assert!(name == NAME || name == OTHER, "{name}");
        Ok(vec!["127.0.0.1".parse().unwrap()])
    };
    let by_tls = Url::parse(&format!("https://{host}:{}/", aws.port("tls"))).unwrap();
    let plain = Url::parse(&format!("http://127.0.0.1:{}/", aws.port("plain"))).unwrap();
    let world = World {
        settle: Duration::ZERO,
        root: root.path(),
        now: &SystemTime::now,
        net: Net {
            clock: &clock,
            stop: &stop,
            resolve: &resolve,
            tls: tls(roots(root.path(), trust).unwrap()).unwrap(),
        },
        environment: &Environment::nothing(),
        endpoints: &Endpoints {
            metadata: plain.clone(),
            container: plain,
            sts: Some(by_tls.clone()),
            efs: Some(by_tls),
        },
        metadata: &Metadata::default(),
    };
    work(&world, Deadline::after(&clock, Duration::from_secs(20)))
}

/// The certificate of this AWS, which is on each machine.
fn trusting() -> Trust<'static> {
    Trust::File(Path::new("/trusted.pem"))
}

fn found(
    profiles: &str,
    config: &str,
    profile: Option<&str>,
) -> Result<Credentials, CredentialsError> {
    let wanted = Wanted { profile, region: aws().text("region") };
    on_a_machine(profiles, config, NAME, trusting(), |world, until| find(&wanted, world, until))
}

fn targets(credentials: &Credentials, id: &str) -> Result<Vec<MountTarget>, String> {
    let region = aws().text("region");
    on_a_machine("", "", NAME, trusting(), |world, until| {
        mount_targets::find(id, region, credentials, world, until).map_err(|e| e.to_string())
    })
}

/// A profile "fleet" that assumes the role by the profile "base".
fn fleet() -> String {
    format!("[profile fleet]\nrole_arn = {}\nsource_profile = base\n", aws().text("role"))
}

#[test]
fn the_instances_role_is_had_from_the_metadata_service() {
    let found = found("", "", None).unwrap();
    assert_eq!(found.access_key_id, "test-key");
    assert_eq!(found.secret_access_key.expose(), "test-secret-key");
    assert_eq!(found.session_token.unwrap().expose(), "test-session-token");
    assert_eq!(found.source, "role \"default-role\" of this instance (IMDSv2)");
    assert!(found.expires.unwrap() > SystemTime::now());
}

#[test]
fn a_role_is_assumed_by_a_signed_request_and_its_keys_list_the_mount_targets() {
    let aws = aws();
    let assumed = found(&aws.profile("base", "user"), &fleet(), Some("fleet")).unwrap();
    assert!(assumed.access_key_id.starts_with("ASIA"), "{assumed:?}");
    assert_eq!(assumed.source, format!("role {} by source profile \"base\"", aws.text("role")));
    let life = assumed.expires.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(life > Duration::from_secs(3000) && life < Duration::from_secs(3700), "{life:?}");
    let targets = targets(&assumed, aws.text("file_system")).unwrap();
    let mut told: Vec<String> = targets.iter().map(|t| t.address.to_string()).collect();
    let near: Vec<bool> = targets.iter().map(|t| t.near).collect();
    assert_eq!(near, [true, false, false, false, false, false]);
    // As the metadata service has it for our own zone.
    assert_eq!(targets[0].zone.as_deref(), Some("use1-az1"));
    let list = aws.facts["targets"].as_array().unwrap();
    let mut made: Vec<&str> = list.iter().map(|t| t["address"].as_str().unwrap()).collect();
    told.sort();
    made.sort_unstable();
    assert_eq!(told, made);
}

#[test]
fn a_role_is_assumed_by_a_web_identity_with_nothing_to_sign_with() {
    // A token as OpenID Connect has it, which is not looked into here.
    let config = format!(
        "[profile web]\nrole_arn = {}\nweb_identity_token_file = /trusted.pem\n",
        aws().text("role")
    );
    let assumed = found("", &config, Some("web")).unwrap();
    assert!(assumed.access_key_id.starts_with("ASIA"), "{assumed:?}");
    assert_eq!(assumed.source, format!("role {} by a web identity", aws().text("role")));
    assert!(!targets(&assumed, aws().text("file_system")).unwrap().is_empty());
}

#[test]
fn what_is_signed_with_the_wrong_key_or_by_a_stranger_is_refused_in_the_words_of_aws() {
    let aws = aws();
    let wrong = aws
        .profile("base", "user")
        .replace("aws_secret_access_key = ", "aws_secret_access_key = x");
    let told = found(&wrong, &fleet(), Some("fleet")).unwrap_err().to_string();
    let start = format!(
        "no credentials from profile \"fleet\": role {} cannot be assumed: it answered 403: \
         SignatureDoesNotMatch: The request signature we calculated does not match",
        aws.text("role")
    );
    assert!(told.starts_with(&start), "{told}");
    let told = found(&aws.profile("base", "stranger"), &fleet(), Some("fleet")).unwrap_err();
    let told = told.to_string();
    let words = "it answered 403: AccessDenied: User: arn:aws:iam::123456789012:user/stranger is not \
                 authorized to perform: sts:AssumeRole";
    assert!(told.contains(words), "{told}");
    let stranger = found(&aws.profile("base", "stranger"), "", Some("base")).unwrap();
    let told = targets(&stranger, aws.text("file_system")).unwrap_err();
    // As XML, in which this AWS differs from the true one.
    let words = "<Code>AccessDenied</Code><Message>User: arn:aws:iam::123456789012:user/stranger is \
                 not authorized to perform: elasticfilesystem:DescribeMountTargets";
    assert!(told.contains("cannot be listed: it answered 403: "), "{told}");
    assert!(told.contains(words), "{told}");
    let mut wrong = found(&aws.profile("base", "user"), "", Some("base")).unwrap();
    wrong.secret_access_key = Secret::new("x".into());
    let told = targets(&wrong, aws.text("file_system")).unwrap_err();
    assert!(told.contains("<Code>SignatureDoesNotMatch</Code>"), "{told}");
}

#[test]
fn a_file_system_that_is_not_there_is_said_to_be_so() {
    let user = found(&aws().profile("base", "user"), "", Some("base")).unwrap();
    let told = targets(&user, "fs-0123456789abcdef0").unwrap_err();
    let words = "the mount targets of fs-0123456789abcdef0 cannot be listed: it answered 404: \
                 FileSystemNotFound: File system 'fs-0123456789abcdef0' does not exist.";
    assert_eq!(told, words);
}

#[test]
fn a_server_that_cannot_prove_its_name_gets_nothing() {
    let aws = aws();
    let wanted = Wanted { profile: Some("fleet"), region: aws.text("region") };
    let ask = |host: &str, trust: Trust<'_>| {
        on_a_machine(&aws.profile("base", "user"), &fleet(), host, trust, |world, until| {
            find(&wanted, world, until).unwrap_err().to_string()
        })
    };
    let told = ask(NAME, Trust::Amazon);
    assert!(told.contains("failed: invalid peer certificate: UnknownIssuer"), "{told}");
    let told = ask(OTHER, trusting());
    assert!(
        told.contains("failed: invalid peer certificate: certificate not valid for name"),
        "{told}"
    );
    assert!(told.contains(OTHER) && told.contains(NAME), "{told}");
}
