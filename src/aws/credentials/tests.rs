use super::*;
use crate::aws::PROGRAM_PATH as PATH;
use crate::aws::http::{Net, Url, tls};
use crate::aws::trust::{Trust, roots};
use crate::aws::{Endpoints, Environment, Metadata, mount_targets};
use crate::stop::{Stop, SystemClock};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const NOW: &str = "2025-01-02T03:04:05Z";

/// A separate machine: files, and a server that stands for all of AWS.
struct Machine {
    root: tempfile::TempDir,
    variables: Vec<(String, String)>,
    server: Server,
    now: SystemTime,
    /// Usually zero, since the tests make their files only a moment before.
    settle: Duration,
}

/// The requests that came, head and body, and the answers by method and path.
#[derive(Default)]
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<BTreeMap<String, (u16, String)>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, ..Self::default() };
        let (asked, answers) = (server.asked.clone(), server.answers.clone());
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let request = request(&mut stream);
                let key = request.lines().next().unwrap_or_default().replace(" HTTP/1.1", "");
                let answer = answers.lock().unwrap().get(&key).cloned();
                let (status, body) = answer.unwrap_or((404, "nothing here".into()));
                asked.lock().unwrap().push(request);
                let length = body.len();
                let _ =
                    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
            }
        });
        server
    }

    fn answer(&self, key: &str, status: u16, body: &str) {
        self.answers.lock().unwrap().insert(key.into(), (status, body.into()));
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().drain(..).collect()
    }
}

/// A whole request, with its body.
fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    let _ = stream.read_exact(&mut body);
    head + &String::from_utf8_lossy(&body)
}

fn time(text: &str) -> SystemTime {
    humantime::parse_rfc3339(text).unwrap()
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (server, settle) = (Server::start(), Duration::ZERO);
        let machine = Self { root, variables: Vec::new(), server, now: time(NOW), settle };
        machine.file("/etc/passwd", "daemon:x:1:1::/:\nroot:x:0:0:root:/root:/bin/sh\n");
        machine
    }

    fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.root.path().join(&path[1..]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn script(&self, path: &str, text: &str) {
        let path = self.file(path, &format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.into(), value.into()));
    }

    /// Does `work` in this world, which has ten seconds.
    fn with<T>(&self, work: impl FnOnce(&World<'_>, Deadline) -> T) -> T {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let resolve = |name: &str, _: Deadline| Err(format!("nobody knows {name}"));
        let tls = tls(roots(Path::new("/"), Trust::Amazon).unwrap()).unwrap();
        let url = Url::parse(&format!("http://127.0.0.1:{}/", self.server.port)).unwrap();
        let endpoints = Endpoints {
            metadata: url.clone(),
            container: url.clone(),
            sts: Some(url.clone()),
            efs: Some(url),
        };
        let environment = Environment::of(self.variables.clone());
        let world = World {
            root: self.root.path(),
            now: &|| self.now,
            net: Net { clock: &clock, stop: &stop, resolve: &resolve, tls },
            environment: &environment,
            endpoints: &endpoints,
            metadata: &Metadata::default(),
            settle: self.settle,
        };
        work(&world, Deadline::after(&clock, Duration::from_secs(10)))
    }

    fn find(&self, profile: Option<&str>) -> Result<Credentials, CredentialsError> {
        let wanted = Wanted { profile, region: "eu-central-1" };
        self.with(|world, until| find(&wanted, world, until))
    }

    /// Key id and source of the credentials that are found, or the error. What varies has a fixed name.
    fn told(&self, profile: Option<&str>) -> String {
        let told = match self.find(profile) {
            Ok(found) => format!("{} from {}", found.access_key_id, found.source),
            Err(e) => e.to_string(),
        };
        assert!(!told.contains('\n'), "{told}");
        told.replace(&format!("127.0.0.1:{}", self.server.port), "SERVER")
    }
}

/// The command against others who can change a file, if that is the error.
fn changeable(error: &CredentialsError) -> Option<String> {
    match error.class() {
        Some(ErrorClass::Changeable(command)) => Some(command),
        _ => None,
    }
}

/// The service that has failed, if that is the error.
fn trouble(error: &CredentialsError) -> Option<(Service, Trouble)> {
    match error.class() {
        Some(ErrorClass::Service(service, trouble)) => Some((service, trouble)),
        _ => None,
    }
}

/// What helps, if the error is one of this machine.
fn remedy(error: &CredentialsError) -> Option<Remedy> {
    match error.class() {
        Some(ErrorClass::Source(remedy)) => Some(remedy),
        _ => None,
    }
}

const FILES: &str = "/root/.aws/credentials or /root/.aws/config";

#[test]
fn with_nothing_at_all_each_source_that_was_tried_is_named_with_what_it_said() {
    let machine = Machine::new();
    let missing = format!("there is no such profile in {FILES}");
    assert_eq!(
        machine.told(None),
        format!(
            "no credentials: profile \"appstream_machine_role\": {missing}; profile \"default\": \
             {missing}; the instance's role (IMDSv2): the metadata service (169.254.169.254) answered 404: nothing here"
        )
    );
    assert_eq!(machine.told(Some("x")), format!("no credentials from profile \"x\": {missing}"));
    machine.file("/root/.aws/config", "[x]\na=b\n[default]\nregion=eu\n");
    assert_eq!(
        machine.told(Some("x")),
        format!(
            "no credentials from profile \"x\": {missing} ([x] in the latter must be [profile x])"
        )
    );
    let told = machine.told(None);
    assert!(
        told.contains("; profile \"default\": it has neither aws_access_key_id with"),
        "{told}"
    );
}

#[test]
fn the_profile_of_appstream_comes_before_default_and_a_named_one_before_both() {
    let machine = Machine::new();
    let keys = |id: &str| format!("aws_access_key_id={id}\naws_secret_access_key=hush\n");
    machine.file("/root/.aws/config", &format!("[default]\n{}", keys("D")));
    assert_eq!(machine.told(None), "D from profile \"default\" of /root/.aws/config");
    let both =
        format!("[appstream_machine_role]\n{}aws_session_token=T\n[x]\n{}", keys("A"), keys("X"));
    machine.file("/root/.aws/credentials", &both);
    let found = machine.find(None).unwrap();
    assert_eq!(found.source, "profile \"appstream_machine_role\" of /root/.aws/credentials");
    assert_eq!(found.access_key_id, "A");
    assert_eq!(found.secret_access_key.expose(), "hush");
    assert_eq!(found.session_token.unwrap().expose(), "T");
    assert_eq!(machine.told(Some("x")), "X from profile \"x\" of /root/.aws/credentials");
    // Nothing that an environment says counts, unless it is handed over.
    assert!(machine.server.asked().is_empty());
}

#[test]
fn roots_home_is_where_the_account_file_says() {
    let machine = Machine::new();
    machine.file("/etc/passwd", "root:x:0:0:root:/var/root:/bin/sh\n");
    machine.file(
        "/var/root/.aws/credentials",
        "[default]\naws_access_key_id=A\naws_secret_access_key=S\n",
    );
    assert_eq!(machine.told(None), "A from profile \"default\" of /var/root/.aws/credentials");
}

#[test]
fn a_profile_that_is_there_decides_and_its_fault_is_told() {
    let machine = Machine::new();
    let said = |text: &str| {
        machine.file("/root/.aws/credentials", text);
        let told = machine.told(None);
        let told = told.strip_prefix("no credentials from profile \"appstream_machine_role\": ");
        told.unwrap_or_else(|| panic!("{told:?}")).to_owned()
    };
    let role = "[appstream_machine_role]\n";
    assert_eq!(
        said(role),
        "it has neither aws_access_key_id with aws_secret_access_key, nor role_arn, nor \
         credential_process"
    );
    assert_eq!(
        said(&format!("{role}aws_access_key_id=A\naws_secret_access_key=\n")),
        "it has aws_access_key_id, but no aws_secret_access_key"
    );
    assert_eq!(
        said(&format!("{role}sso_session=x\n")),
        "it has sso_session, which needs a person who signs in"
    );
    assert_eq!(
        said(&format!("{role}role_arn=x\n")),
        "it has role_arn, but no source_profile or credential_source"
    );
    assert_eq!(
        said(&format!("{role}role_arn=x\nsource_profile=y\nmfa_serial=z\n")),
        "it has mfa_serial, which needs a person who types a code"
    );
    assert_eq!(
        said(&format!("{role}role_arn=x\nsource_profile=y\n")),
        format!("source profile \"y\": there is no such profile in {FILES}")
    );
    assert_eq!(
        said(&format!("{role}role_arn=x\ncredential_source=Moon\n")),
        "it has credential_source, which is neither Ec2InstanceMetadata, nor EcsContainer, nor \
         Environment"
    );
    let circle = "[y]\nrole_arn=x\nsource_profile=appstream_machine_role\n";
    assert_eq!(
        said(&format!("{role}role_arn=x\nsource_profile=y\n{circle}")),
        "source_profile leads back to \"appstream_machine_role\""
    );
    assert_eq!(
        said(&format!("{role}role_arn=x\nsource_profile=appstream_machine_role\n")),
        "source_profile leads back to \"appstream_machine_role\""
    );
    assert_eq!(
        said(&format!("{role}aws_secret_access_key hush\n")),
        "/root/.aws/credentials, line 2: neither a section, nor a key with an equals sign and a \
         value"
    );
    assert_eq!(
        said(&format!("{role}login_session=x\n")),
        "it has login_session, which needs a person who signs in"
    );
    let path = machine.root.path().join("root/.aws/credentials");
    // As PowerShell writes it.
    fs::write(&path, b"\xff\xfe[\0x\0]\0").unwrap();
    assert_eq!(
        machine.told(None),
        "no credentials from root's files of profiles: /root/.aws/credentials is no UTF-8 text"
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    assert!(machine.told(None).ends_with(
        "/root/.aws/credentials is not read, since others than root can change it: \
         /root/.aws/credentials has mode 0660"
    ));
    let cure = changeable(&machine.find(None).unwrap_err());
    assert_eq!(cure.as_deref(), Some("chmod go-w /root/.aws/credentials"));
    fs::remove_file(&path).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    assert!(machine.told(None).contains("/root/.aws/credentials is a symlink"));
}

const MADE: &str = r#"{"Version":1,"AccessKeyId":"P","SecretAccessKey":"S","SessionToken":"T","Expiration":"2025-01-02T04:00:00Z"}"#;

/// The result for a profile whose `credential_process` is `line`.
fn process(machine: &Machine, line: &str) -> String {
    machine.file("/root/.aws/config", &format!("[profile p]\ncredential_process = {line}\n"));
    let told = machine.told(Some("p"));
    told.replace("no credentials from profile \"p\": credential_process ", "")
}

#[test]
fn a_credential_process_is_run_without_a_shell_and_without_our_environment() {
    let machine = Machine::new();
    let spy = format!(
        "for a in \"$@\"; do echo \"<$a>\"; done >$0.told; env >>$0.told; pwd >>$0.told\necho '{MADE}'"
    );
    machine.script("/opt/my tool", &spy);
    let line = r#""/opt/my tool" a 'b c' "$HOME" ; rm * `id`"#;
    assert_eq!(
        process(&machine, line),
        "P from profile \"p\" of /root/.aws/config (credential_process /opt/my tool)"
    );
    let told = fs::read_to_string(machine.root.path().join("opt/my tool.told")).unwrap();
    let mut told: Vec<&str> = told.lines().collect();
    assert_eq!(told[..3], ["<a>", "<b c>", "<$HOME>"]);
    // A semicolon behind white space begins a comment, as for AWS's own tools.
    let mut variables = told.split_off(3);
    assert_eq!(variables.pop(), Some("/"));
    // The shell of the script adds these by itself.
    variables.retain(|line| {
        !["PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|own| line.starts_with(own))
    });
    variables.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(variables, ["HOME=/root", path]);
    let found = machine.find(Some("p")).unwrap();
    assert_eq!(found.expires, Some(time("2025-01-02T04:00:00Z")));
    assert_eq!(found.session_token.unwrap().expose(), "T");
}

#[test]
fn a_credential_process_that_fails_is_told_of_by_what_it_did() {
    let machine = Machine::new();
    let key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    machine.script("/opt/p", &format!("echo first >&2; echo no: {key} >&2; echo >&2; exit 3"));
    assert_eq!(process(&machine, "/opt/p"), "/opt/p ended with status 3: no: (hidden)");
    machine.script("/opt/p", "kill -9 $$");
    assert_eq!(process(&machine, "/opt/p"), "/opt/p was ended by signal 9");
    machine.script("/opt/p", "echo hush");
    assert_eq!(process(&machine, "/opt/p"), "/opt/p: what it gave is no JSON object");
    machine.script("/opt/p", &format!("echo '{}'", MADE.replace(":1,", ":2,")));
    assert_eq!(process(&machine, "/opt/p"), "/opt/p printed no document of version 1");
    machine.script("/opt/p", &format!("echo '{}'", MADE.replace("AccessKeyId\"", "x\"")));
    assert!(process(&machine, "/opt/p").ends_with("what it gave has no AccessKeyId"));
    machine.script("/opt/p", &format!("echo '{}'", MADE.replace("T04:", "T03:")));
    assert_eq!(
        process(&machine, "/opt/p"),
        "the credentials from profile \"p\" of /root/.aws/config (credential_process /opt/p) \
         expired at 2025-01-02T03:00:00Z (it is 2025-01-02T03:04:05Z now)"
    );
    assert_eq!(process(&machine, "./p"), "\"./p\" is no absolute path: write it out in full");
    assert_eq!(process(&machine, "~/p"), "\"~/p\" is no absolute path: write it out in full");
    assert_eq!(process(&machine, "p x"), format!("\"p\" is in none of {PATH}"));
    assert_eq!(
        process(&machine, "/opt/none"),
        "/opt/none cannot be run: No such file or directory"
    );
    assert_eq!(process(&machine, "\"/opt/p"), "the command line has a quote that is not closed");
    let file = machine.file("/opt/plain", "no program\n");
    assert_eq!(process(&machine, "/opt/plain"), "/opt/plain cannot be run: Permission denied");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o777)).unwrap();
    symlink("plain", machine.root.path().join("opt/link")).unwrap();
    assert_eq!(
        process(&machine, "/opt/link"),
        "/opt/link is not run: others than root can change it (/opt/plain has mode 0777)"
    );
}

#[test]
fn a_program_is_called_by_the_name_that_the_line_has() {
    let machine = Machine::new();
    let root = machine.root.path();
    machine.file("/opt/shell", "");
    fs::copy("/bin/sh", root.join("opt/shell")).unwrap();
    symlink("shell", root.join("opt/other")).unwrap();
    // Such a program is one file with many names, and learns its name in this way.
    let told = root.join("told");
    machine.file("/opt/s", &format!("echo $0 >{}\necho '{MADE}'\n", told.display()));
    let line = format!("/opt/other -c '. {}'", root.join("opt/s").display());
    assert!(process(&machine, &line).starts_with("P from"), "{}", process(&machine, &line));
    assert_eq!(fs::read_to_string(told).unwrap(), "/opt/other\n");
}

/// Whether a process with `word` on its command line is there.
fn runs(word: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    })
}

#[test]
fn a_credential_process_that_hangs_forks_or_floods_is_killed_and_leaves_nothing() {
    let machine = Machine::new();
    let timed = |line: &str, span| {
        let started = Instant::now();
        machine.file("/root/.aws/config", &format!("[profile p]\ncredential_process = {line}\n"));
        let wanted = Wanted { profile: Some("p"), region: "r" };
        let result = machine.with(|world, until| {
            find(&wanted, world, until.within(world.net.clock, Duration::from_millis(span)))
        });
        let told = result.map_or_else(|e| e.to_string(), |found| found.access_key_id);
        (told, started.elapsed())
    };
    machine.script("/opt/hangs-31337", "exec sleep 31337");
    let (told, took) = timed("/opt/hangs-31337", 500);
    let words = "no credentials from profile \"p\": credential_process /opt/hangs-31337 was killed, \
                 as it had not ended within 500ms";
    assert_eq!(told, words);
    assert!(took < Duration::from_millis(1500), "{took:?}");
    assert!(!runs("sleep\u{0}31337"));
    // The program ends, but what it leaves behind keeps its outputs open.
    machine.script(
        "/opt/forks",
        &format!("sleep 31338 &\n(sleep 31338 & sleep 31338) &\necho '{MADE}'"),
    );
    let (told, took) = timed("/opt/forks", 5000);
    assert_eq!(told, "P");
    assert!(took < Duration::from_millis(1500), "{took:?}");
    // SIGKILL was sent, but takes a moment.
    let gone = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(10));
        !runs("sleep\u{0}31338")
    });
    assert!(gone, "what it forked lives on");
    for stream in ["", " >&2"] {
        machine.script("/opt/floods", &format!("yes 31339 31339 31339{stream}"));
        let (told, took) = timed("/opt/floods", 5000);
        assert!(told.ends_with("/opt/floods was killed, as it printed over 64 KiB"), "{told}");
        assert!(took < Duration::from_millis(2000), "{took:?}");
    }
    machine.script("/opt/closes-31340", "exec >&- 2>&-; exec sleep 31340");
    let (told, took) = timed("/opt/closes-31340", 500);
    assert!(told.contains("had not ended within"), "{told}");
    assert!(took < Duration::from_millis(1500), "{took:?}");
    assert!(!runs("sleep\u{0}31340"));
}

const STS: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>R</AccessKeyId>\
    <SecretAccessKey>RS</SecretAccessKey><SessionToken>RT</SessionToken>\
    <Expiration>2025-01-02T04:04:05Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

#[test]
fn a_role_is_assumed_with_the_keys_of_its_source() {
    let machine = Machine::new();
    machine.server.answer("POST /", 200, STS);
    let keys = "aws_access_key_id=K\naws_secret_access_key=hush\n";
    machine.file("/root/.aws/credentials", &format!("[base]\n{keys}[self]\n{keys}"));
    machine.file(
        "/root/.aws/config",
        "[profile r]\nrole_arn=arn:x\nsource_profile=base\nexternal_id=a b\nduration_seconds=900\n\
         [profile self]\nrole_arn=arn:self\nsource_profile=self\n[profile two]\nrole_arn=arn:two\n\
         source_profile=r\nrole_session_name=me\n",
    );
    assert_eq!(machine.told(Some("r")), "R from role arn:x by source profile \"base\"");
    let asked = machine.server.asked();
    let [asked] = &asked[..] else { panic!("{asked:?}") };
    assert!(
        asked.ends_with(
            "\r\n\r\nAction=AssumeRole&DurationSeconds=900&ExternalId=a%20b&RoleArn=arn%3Ax\
             &RoleSessionName=efs-agent&Version=2011-06-15"
        ),
        "{asked}"
    );
    let scope = "Credential=K/20250102/eu-central-1/sts/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date, ";
    assert!(asked.contains(scope), "{asked}");
    assert!(!asked.contains("hush"));
    assert_eq!(machine.told(Some("self")), "R from role arn:self by source profile \"self\"");
    machine.server.asked();
    assert_eq!(machine.told(Some("two")), "R from role arn:two by source profile \"r\"");
    let asked = machine.server.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].contains("X-Amz-Security-Token: RT"), "{}", asked[1]);
    assert!(asked[1].contains("RoleSessionName=me"), "{}", asked[1]);
    let refused = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
                   <Message>User: arn:u is not authorized &amp; so on</Message></Error></ErrorResponse>";
    machine.server.answer("POST /", 403, refused);
    assert_eq!(
        machine.told(Some("two")),
        "no credentials from profile \"two\": source profile \"r\": role arn:x cannot be assumed: \
         it answered 403: AccessDenied: User: arn:u is not authorized & so on"
    );
    machine.server.answer("POST /", 200, "<html>a portal</html>");
    assert!(machine.told(Some("r")).ends_with("cannot be assumed: what it gave has no Expiration"));
}

#[test]
fn what_signs_for_a_role_must_not_have_expired_itself() {
    let machine = Machine::new();
    machine.server.answer("POST /", 200, STS);
    machine.script("/opt/p", &format!("echo '{}'", MADE.replace("T04:", "T03:")));
    machine.file(
        "/root/.aws/config",
        "[profile p]\ncredential_process=/opt/p\n[profile r]\nrole_arn=arn:x\nsource_profile=p\n",
    );
    assert_eq!(
        machine.told(Some("r")),
        "no credentials from profile \"r\": the credentials from source profile \"p\", which are to \
         sign for its role, expired at 2025-01-02T03:00:00Z"
    );
    assert!(machine.server.asked().is_empty());
}

const INSTANCE: &str = r#"{"Code":"Success","AccessKeyId":"I","SecretAccessKey":"S","Token":"T","Expiration":"2025-01-02T09:04:05Z"}"#;
const ROLES: &str = "GET /latest/meta-data/iam/security-credentials/";

fn with_metadata(server: &Server) {
    server.answer("PUT /latest/api/token", 200, "the-token");
    server.answer(ROLES, 200, "my-role\n");
    server.answer(&format!("{ROLES}my-role"), 200, INSTANCE);
}

#[test]
fn the_instances_role_is_asked_for_by_version_two_with_one_token() {
    let machine = Machine::new();
    with_metadata(&machine.server);
    let wanted = Wanted { profile: None, region: "r" };
    machine.with(|world, until| {
        for _ in 0..3 {
            let found = find(&wanted, world, until).unwrap();
            assert_eq!(found.source, "role \"my-role\" of this instance (IMDSv2)");
            assert_eq!(found.access_key_id, "I");
        }
        let asked = machine.server.asked();
        let tokens: Vec<_> = asked.iter().filter(|asked| asked.starts_with("PUT ")).collect();
        assert_eq!((tokens.len(), asked.len()), (1, 7));
        assert!(tokens[0].contains("X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"));
        let rest = asked.iter().skip(1);
        rest.for_each(|asked| assert!(asked.contains("X-aws-ec2-metadata-token: the-token\r\n")));
        // The service forgets its tokens. One more is asked for, and only one.
        machine.server.answer(ROLES, 401, "");
        let told = find(&wanted, world, until).unwrap_err().to_string();
        assert!(told.ends_with("the instance's role (IMDSv2): it answered 401"), "{told}");
        let methods: Vec<_> =
            machine.server.asked().iter().map(|asked| asked[..3].to_owned()).collect();
        assert_eq!(methods, ["GET", "PUT", "GET"]);
    });
    machine.server.answer(ROLES, 200, "../../evil path\n");
    assert!(machine.told(None).ends_with("(IMDSv2): this instance has no role"));
    machine.server.answer(ROLES, 404, "");
    assert!(machine.told(None).ends_with("(IMDSv2): this instance has no role"));
    machine.server.answer(ROLES, 200, "my-role");
    let failed = r#"{"Code":"Failed","Message":"no"}"#;
    machine.server.answer(&format!("{ROLES}my-role"), 200, failed);
    assert!(machine.told(None).ends_with("it refused: Failed no"));
    machine.server.asked();
    machine.server.answer("PUT /latest/api/token", 403, "");
    assert!(
        machine
            .told(None)
            .ends_with("(IMDSv2): the metadata service (169.254.169.254) answered 403")
    );
    // A request without a token would be version 1.
    assert_eq!(machine.server.asked().len(), 1);
}

#[test]
fn a_containers_endpoint_counts_where_variables_do() {
    let mut machine = Machine::new();
    machine.server.answer("GET /v2/creds?id=1", 200, INSTANCE);
    machine.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/creds?id=1");
    machine.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/var/token");
    machine.file("/run/data/token", "bearer\n");
    fs::create_dir_all(machine.root.path().join("var")).unwrap();
    symlink("../run/data/token", machine.root.path().join("var/token")).unwrap();
    assert_eq!(machine.told(None), "I from the container's endpoint SERVER");
    let asked = machine.server.asked();
    assert!(asked[0].contains("\r\nAuthorization: bearer\r\n"), "{asked:?}");
    machine.server.answer("GET /v2/creds?id=1", 500, r#"{"message":"broken"}"#);
    assert_eq!(
        machine.told(None),
        "no credentials from the container's endpoint SERVER: it answered 500: \
         {\"message\":\"broken\"}"
    );
    // The answer repeats the token that was sent.
    machine.server.answer("GET /v2/creds?id=1", 403, "not 'bearer'");
    assert!(machine.told(None).ends_with("it answered 403: not '(hidden)'"));
    let refusal = r#"{"Code": "Denied", "Message": "bearer is old"}"#;
    machine.server.answer("GET /v2/creds?id=1", 200, refusal);
    assert!(machine.told(None).ends_with("Denied (hidden) is old"), "{}", machine.told(None));
    machine.variables.truncate(1);
    machine.server.answer("GET /v2/creds?id=1", 301, "");
    assert!(machine.told(None).ends_with("it answered 301"), "no redirect is followed");
    let full = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    machine.variables = vec![(full.into(), format!("http://localhost:{}/c", machine.server.port))];
    machine.server.answer("GET /c", 200, INSTANCE);
    machine.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\r\nb: c");
    assert!(
        machine
            .told(None)
            .ends_with("the header \"Authorization\" cannot be sent: it holds a control character")
    );
    machine.variables.truncate(1);
    let told = machine.told(None);
    assert!(told.starts_with("I from the container's endpoint localhost:"), "{told}");
    for bad in ["http://10.0.0.1/c", "http://evil.example/c", "http://169.254.169.254/c"] {
        machine.variables = vec![(full.into(), bad.into())];
        assert_eq!(
            machine.told(None),
            "no credentials from the container's endpoint: AWS_CONTAINER_CREDENTIALS_FULL_URI is \
             neither https nor an address of this machine, of ECS or of EKS"
        );
    }
    machine.variables = vec![(full.into(), "https://evil.example/c".into())];
    let told = machine.told(None);
    assert!(told.ends_with("evil.example cannot be resolved: nobody knows evil.example"), "{told}");
}

#[test]
fn variables_of_keys_a_profile_and_a_web_identity_count_only_where_they_are_handed_over() {
    let mut machine = Machine::new();
    machine.server.answer("POST /", 200, STS);
    machine.file("/var/jwt", "a.jwt\n");
    machine.variable("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/jwt");
    assert_eq!(
        machine.told(None),
        "no credentials from the web identity: it has AWS_WEB_IDENTITY_TOKEN_FILE, but no \
         AWS_ROLE_ARN"
    );
    machine.variable("AWS_ROLE_ARN", "arn:web");
    assert_eq!(machine.told(None), "R from role arn:web by a web identity");
    let asked = machine.server.asked().pop().unwrap();
    assert!(asked.ends_with("&Version=2011-06-15&WebIdentityToken=a.jwt"), "{asked}");
    assert!(
        asked.contains("\r\n\r\nAction=AssumeRoleWithWebIdentity&RoleArn=arn%3Aweb&"),
        "{asked}"
    );
    assert!(!asked.contains("Authorization"), "{asked}");
    machine.variables[0].1 = "/var/none".into();
    assert_eq!(
        machine.told(None),
        "no credentials from the web identity: /var/none cannot be opened: No such file or \
         directory"
    );
    machine.file("/etc/aws", "[other]\naws_access_key_id=O\naws_secret_access_key=S\n");
    machine.variable("AWS_SHARED_CREDENTIALS_FILE", "/etc/aws");
    machine.variable("AWS_PROFILE", "other");
    assert_eq!(machine.told(None), "O from profile \"other\" of /etc/aws");
    machine.variable("AWS_ACCESS_KEY_ID", "E");
    assert_eq!(
        machine.told(None),
        "no credentials from the environment: it has AWS_ACCESS_KEY_ID, but no \
         AWS_SECRET_ACCESS_KEY"
    );
    machine.variable("AWS_SECRET_ACCESS_KEY", "S");
    assert_eq!(machine.told(None), "E from the environment");
    assert_eq!(machine.told(Some("other")), "O from profile \"other\" of /etc/aws", "named by us");
    machine.variables.clear();
    assert!(machine.told(None).starts_with("no credentials: profile"));
}

#[test]
fn sources_of_other_kinds_serve_a_role_too() {
    let mut machine = Machine::new();
    machine.server.answer("POST /", 200, STS);
    with_metadata(&machine.server);
    let profile =
        |source: &str| format!("[profile r]\nrole_arn=arn:x\ncredential_source={source}\n");
    machine.file("/root/.aws/config", &profile("Ec2InstanceMetadata"));
    let by = "R from role arn:x by credential_source ";
    assert_eq!(machine.told(Some("r")), format!("{by}Ec2InstanceMetadata"));
    for (source, lacks) in
        [("EcsContainer", "AWS_CONTAINER_CREDENTIALS_…"), ("Environment", "AWS_ACCESS_KEY_ID")]
    {
        machine.file("/root/.aws/config", &profile(source));
        let told = machine.told(Some("r"));
        let words = format!(
            "no credentials from profile \"r\": it has credential_source = {source}, but no \
             {lacks} in an environment that counts"
        );
        assert_eq!(told, words);
    }
    machine.variable("AWS_ACCESS_KEY_ID", "E");
    machine.variable("AWS_SECRET_ACCESS_KEY", "S");
    assert_eq!(machine.told(Some("r")), format!("{by}Environment"));
    machine
        .file("/root/.aws/config", "[profile r]\nrole_arn=arn:w\nweb_identity_token_file=/jwt\n");
    machine.file("/jwt", "x");
    assert_eq!(machine.told(Some("r")), "R from role arn:w by a web identity");
}

#[test]
fn a_signal_ends_the_search_at_once() {
    let machine = Machine::new();
    machine.script("/opt/p", "exec sleep 31341");
    machine.file("/root/.aws/config", "[profile p]\ncredential_process=/opt/p\n");
    let wanted = Wanted { profile: Some("p"), region: "r" };
    let started = Instant::now();
    let result = machine.with(|world, until| {
        // The signal goes to this thread alone, which blocks it: only the descriptor shows it.
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        let result = find(&wanted, world, until);
        world.net.stop.signal();
        result
    });
    assert!(matches!(result, Err(CredentialsError::Stopped(_))), "{result:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(!runs("sleep\u{0}31341"));
}

#[test]
fn mount_targets_are_listed_those_of_our_zone_first() {
    let machine = Machine::new();
    with_metadata(&machine.server);
    let zone = "GET /latest/meta-data/placement/availability-zone-id";
    let list = "GET /2015-02-01/mount-targets?FileSystemId=fs-1";
    let target = |address: &str, zone: &str, state: &str| {
        format!(
            r#"{{"IpAddress":"{address}","AvailabilityZoneId":"{zone}","LifeCycleState":"{state}","MountTargetId":"fsmt-1"}}"#
        )
    };
    let credentials = machine.find(None).unwrap();
    machine.server.asked();
    let found = || {
        machine.with(|world, until| {
            let targets = mount_targets::find("fs-1", "eu-central-1", &credentials, world, until);
            targets.map_err(|e| e.to_string()).map(|targets| {
                targets.iter().map(|t| format!("{} {}", t.address, t.near)).collect::<Vec<_>>()
            })
        })
    };
    let all = [
        target("10.0.1.5", "euc1-az1", "available"),
        target("10.0.2.5", "euc1-az2", "available"),
        target("10.0.3.5", "euc1-az2", "creating"),
    ];
    machine.server.answer(list, 200, &format!(r#"{{"MountTargets":[{}]}}"#, all.join(",")));
    machine.server.answer(zone, 200, "euc1-az2");
    assert_eq!(found().unwrap(), ["10.0.2.5 true", "10.0.1.5 false"]);
    let asked = machine.server.asked();
    let scope = "Credential=I/20250102/eu-central-1/elasticfilesystem/aws4_request, \
                 SignedHeaders=host;x-amz-date;x-amz-security-token, ";
    assert!(
        asked[0].contains(scope) && asked[0].contains("X-Amz-Security-Token: T"),
        "{}",
        asked[0]
    );
    // If our own zone is not known, the order stays.
    machine.server.answer(zone, 404, "");
    assert_eq!(found().unwrap(), ["10.0.1.5 false", "10.0.2.5 false"]);
    let none = format!(r#"{{"MountTargets":[{}]}}"#, all[2]);
    machine.server.answer(list, 200, &none);
    assert_eq!(found().unwrap_err(), "fs-1 has no mount target that is available (creating)");
    let refused =
        r#"{"ErrorCode":"FileSystemNotFound","Message":"File system 'fs-1' does not exist."}"#;
    machine.server.answer(list, 404, refused);
    assert_eq!(
        found().unwrap_err(),
        "the mount targets of fs-1 cannot be listed: it answered 404: FileSystemNotFound: File \
         system 'fs-1' does not exist."
    );
    machine.server.answer(list, 200, "[]");
    assert!(found().unwrap_err().ends_with("cannot be listed: what it gave is no JSON object"));
}

#[test]
fn an_expiry_before_1970_is_told_like_any_other_and_ends_nobody() {
    let machine = Machine::new();
    machine.file("/root/.aws/config", "[default]\ncredential_process = /p\n");
    let printed = r#"{"Version": 1, "AccessKeyId": "I", "SecretAccessKey": "S", "Expiration": "1970-01-01T00:00:00+01:00"}"#;
    machine.script("/p", &format!("echo '{printed}'"));
    let told = machine.find(None).unwrap_err().to_string();
    assert!(told.contains("expired at 1970-01-01T00:00:00Z"), "{told}");
}

#[test]
fn what_was_mistyped_is_told_from_what_may_come_yet() {
    let machine = Machine::new();
    with_metadata(&machine.server);
    machine.server.answer(ROLES, 404, "");
    let mistyped = |profile: Option<&str>| machine.find(profile).unwrap_err().lasts();
    assert!(!mistyped(None), "no role yet");
    assert!(!mistyped(Some(APPSTREAM_PROFILE)), "AppStream has not written it yet");
    assert!(mistyped(Some("x")));
    let half = "aws_access_key_id=K\n";
    machine.file("/root/.aws/credentials", &format!("[half]\n{half}[{APPSTREAM_PROFILE}]\n{half}"));
    machine.file(
        "/root/.aws/config",
        "[profile lost]\nrole_arn=arn:x\nsource_profile=nobody\n[profile empty]\nregion=x\n",
    );
    for profile in ["half", "lost", "empty"] {
        assert!(mistyped(Some(profile)), "{profile}");
    }
    // The file has been left alone for long enough, so nobody is writing it any more.
    assert!(mistyped(None) && mistyped(Some(APPSTREAM_PROFILE)));
    let path = machine.root.path().join("root/.aws/credentials");
    std::os::unix::fs::chown(path, Some(65534), None).unwrap();
    let error = machine.find(Some("half")).unwrap_err();
    let mend = changeable(&error).unwrap();
    assert_eq!(mend, "chown root:root /root/.aws/credentials");
    assert!(error.to_string().ends_with("/root/.aws/credentials belongs to user 65534"), "{error}");
}

#[test]
fn a_service_in_trouble_is_told_from_a_profile_that_is_wrong() {
    let mut machine = Machine::new();
    let trouble = |machine: &Machine, profile| {
        let wanted = Wanted { profile, region: "eu-west-1" };
        trouble(&machine.with(|world, until| find(&wanted, world, until)).unwrap_err())
    };
    machine.file(
        "/root/.aws/config",
        "[profile r]\nrole_arn = arn:x\nsource_profile = base\n[profile base]\n\
         aws_access_key_id = B\naws_secret_access_key = s\n\
         [profile far]\nrole_arn = arn:y\nsource_profile = r\n\
         [profile i]\nrole_arn = arn:z\ncredential_source = Ec2InstanceMetadata\n",
    );
    for (status, said, expected) in [
        (503, "", Trouble::Failing),
        (500, "<Code>InternalFailure</Code>", Trouble::Failing),
        (400, "<Code>Throttling</Code><Message>Rate exceeded</Message>", Trouble::Throttled),
        (503, "<Code>SlowDown</Code>", Trouble::Throttled),
        (429, "", Trouble::Throttled),
        (403, "<Code>AccessDenied</Code>", Trouble::Denied),
        (301, "", Trouble::Failing),
    ] {
        machine.server.answer("POST /", status, said);
        for profile in ["r", "far"] {
            let found = trouble(&machine, Some(profile));
            assert_eq!(found, Some((Service::Sts, expected)), "{profile}: {status} {said}");
        }
    }
    machine.server.answer("PUT /latest/api/token", 403, "");
    assert_eq!(trouble(&machine, Some("i")), Some((Service::Metadata, Trouble::Denied)));
    machine.server.answer("PUT /latest/api/token", 500, "");
    assert_eq!(trouble(&machine, None), Some((Service::Metadata, Trouble::Failing)));
    // Nobody listens there any more.
    machine.server.port = 1;
    assert_eq!(trouble(&machine, None), Some((Service::Metadata, Trouble::Unreachable)));
    assert_eq!(trouble(&machine, Some("r")), Some((Service::Sts, Trouble::Unreachable)));
    assert_eq!(trouble(&machine, Some("none")), None);
    machine.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/creds");
    assert_eq!(trouble(&machine, None), Some((Service::Container, Trouble::Unreachable)));
}

/// The error of a search for `profile`, whether it lasts, and what helps.
fn remedied(machine: &Machine, profile: Option<&str>) -> (String, bool, String) {
    let error = machine.find(profile).unwrap_err();
    let Remedy { lasts, cure: mend } = remedy(&error).unwrap_or_else(|| panic!("{error}"));
    (error.to_string(), lasts, mend)
}

const KEYS: &str = "aws_access_key_id = K\naws_secret_access_key = hush\n";

#[test]
fn a_slip_costs_the_profile_that_it_is_in_and_hides_no_other() {
    let machine = Machine::new();
    let file = |name: &str, text: &str| {
        machine.file(&format!("/root/.aws/{name}"), text);
    };
    let good = format!("[profile {APPSTREAM_PROFILE}]\n{KEYS}");
    let found = format!("K from profile \"{APPSTREAM_PROFILE}\" of /root/.aws/config");
    // An error in one file does not matter if the other file has the profile.
    for text in [
        "[default]\nno separator\n",
        "export AWS_ACCESS_KEY_ID=x\n",
        "a = b\n",
        "[default\na = b\n",
        "\0\0",
        &format!("[{APPSTREAM_PROFILE}]\nno separator\n"),
    ] {
        file("credentials", text);
        file("config", &good);
        assert_eq!(machine.told(None), found, "{text}");
        assert_eq!(machine.told(Some(APPSTREAM_PROFILE)), found, "{text}");
        file("config", &format!("[default]\n{KEYS}"));
        let expected = "K from profile \"default\" of /root/.aws/config";
        let is_ours = text.contains(APPSTREAM_PROFILE);
        assert_eq!(machine.told(None) == expected, !is_ours, "{text}: {}", machine.told(None));
    }
    // The same holds within one file, and for a byte that is no text in a comment.
    let bytes = [b"# \xe4\n[other]\nno separator\n[good] # \xe4\n", KEYS.as_bytes()].concat();
    fs::write(machine.root.path().join("root/.aws/credentials"), bytes).unwrap();
    assert_eq!(machine.told(Some("good")), "K from profile \"good\" of /root/.aws/credentials");
    assert_eq!(
        remedied(&machine, Some("other")),
        (
            "no credentials from profile \"other\": /root/.aws/credentials, line 3: neither a section, nor a \
             key with an equals sign and a value"
                .to_owned(),
            true,
            "correct line 3 of /root/.aws/credentials".to_owned()
        )
    );
    // Half a profile in one file is not completed by the other file: that would be somebody else.
    file("credentials", "[x]\naws_access_key_id = A\naws_secret_access_key hush\n");
    file("config", &format!("[profile x]\n{KEYS}"));
    let (told, lasts, _) = remedied(&machine, Some("x"));
    assert!(lasts && told.contains("/root/.aws/credentials, line 3: neither"), "{told}");
    // A colon separates key and value, too, as for the AWS CLI.
    file("credentials", "[x]\naws_access_key_id: C\naws_secret_access_key:abc/def+ghi=\n");
    assert_eq!(machine.told(Some("x")), "C from profile \"x\" of /root/.aws/credentials");
    // If nothing else is there, the profile that could not be read may have been meant.
    fs::remove_file(machine.root.path().join("root/.aws/config")).unwrap();
    file("credentials", "AWS_ACCESS_KEY_ID=x\n");
    assert_eq!(
        remedied(&machine, None),
        (
            "no credentials from root's files of profiles: /root/.aws/credentials, line 1: a key before the \
             first section"
                .to_owned(),
            true,
            "put the name of the profile in brackets above line 1 of /root/.aws/credentials, for instance \
             [default]"
                .to_owned()
        )
    );
    file("credentials", "\0\0");
    let (told, lasts, mend) = remedied(&machine, Some("x"));
    assert!(lasts && told.ends_with("/root/.aws/credentials is no UTF-8 text"), "{told}");
    assert_eq!(mend, "save /root/.aws/credentials as UTF-8 text, not as UTF-16");
}

#[test]
fn a_file_that_is_being_written_is_read_again_and_a_slip_that_stays_is_believed() {
    let mut machine = Machine::new();
    machine.settle = Duration::from_millis(400);
    // The time of day proves nothing here: it is long before the file's.
    machine.file("/root/.aws/credentials", "[x]\naws_access_key_id\n");
    let started = Instant::now();
    let (_, lasts, mend) = remedied(&machine, Some("x"));
    assert!(lasts && started.elapsed() >= machine.settle, "{:?}", started.elapsed());
    assert_eq!(mend, "correct line 2 of /root/.aws/credentials");
    let path = machine.root.path().join("root/.aws/credentials");
    let writer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        fs::write(&path, format!("[x]\n{KEYS}")).unwrap();
    });
    machine.file("/root/.aws/credentials", "[x]\naws_access_key_id\n");
    assert_eq!(machine.told(Some("x")), "K from profile \"x\" of /root/.aws/credentials");
    writer.join().unwrap();
    // The file has been like that for a long time.
    machine.file("/root/.aws/credentials", "[x]\naws_access_key_id\n");
    machine.now = SystemTime::now() + Duration::from_secs(60);
    let started = Instant::now();
    assert!(remedied(&machine, Some("x")).1);
    assert!(started.elapsed() < Duration::from_millis(300), "{:?}", started.elapsed());
    // With less time than that, the error is not reported as one that lasts.
    machine.now = SystemTime::now();
    machine.settle = Duration::from_secs(60);
    let wanted = Wanted { profile: Some("x"), region: "r" };
    let error = machine.with(|world, _| {
        let soon = Deadline::after(world.net.clock, Duration::from_millis(300));
        find(&wanted, world, soon).unwrap_err()
    });
    assert!(!remedy(&error).unwrap().lasts);
    assert_eq!(
        error.to_string(),
        "no credentials from profile \"x\": /root/.aws/credentials, line 2: neither a section, nor a key with \
         an equals sign and a value (somebody has written there within 1m)"
    );
}

#[test]
fn keys_that_cannot_be_keys_are_told_before_anything_is_sent() {
    let mut machine = Machine::new();
    let curly = "\u{201c}AKID\u{201d}";
    for (id, secret, line, words) in [
        (
            "\"AKID\"",
            "x",
            2,
            "aws_access_key_id has quotes around it, which would be part of the key: take them off",
        ),
        (
            "'AKID",
            "x",
            2,
            "aws_access_key_id has quotes around it, which would be part of the key: take them off",
        ),
        (
            curly,
            "x",
            2,
            "aws_access_key_id has quotes around it, which would be part of the key: take them off",
        ),
        (
            "AKID",
            "'x/y'",
            3,
            "aws_secret_access_key has quotes around it, which would be part of the key: take them off",
        ),
        ("AK ID", "x", 2, "aws_access_key_id has a blank in it, which no key has"),
        ("AKID", "x y", 3, "aws_secret_access_key has a blank in it, which no key has"),
        (
            "AKID\n  more",
            "x",
            2,
            "aws_access_key_id goes on in the next line, which is further in: begin that as far left as this one",
        ),
        ("AK\u{200b}ID", "x", 2, "aws_access_key_id has a character in it that no key has"),
        ("<your-key>", "x", 2, "aws_access_key_id has a placeholder in the place of the key"),
        (
            "wJalrXUtnFEMI/K7MDENG",
            "AKID",
            2,
            "aws_access_key_id is no access key's id, which has letters and digits alone (or is it the secret key?)",
        ),
    ] {
        machine.file(
            "/root/.aws/credentials",
            &format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"),
        );
        let line = if id.contains('\n') { 2 } else { line };
        assert_eq!(
            remedied(&machine, None),
            (
                format!(
                    "no credentials from profile \"default\": /root/.aws/credentials, line {line}: {words}"
                ),
                true,
                format!(
                    "correct line {line} of /root/.aws/credentials: the key alone, as AWS has shown it"
                )
            )
        );
    }
    machine
        .file("/root/.aws/credentials", &format!("[default]\n{KEYS}aws_session_token = \"T\"\n"));
    let (told, ..) = remedied(&machine, None);
    assert!(told.contains("line 4: aws_session_token has quotes around it"), "{told}");
    for (name, value) in [("AWS_ACCESS_KEY_ID", "\"AKID\""), ("AWS_SECRET_ACCESS_KEY", "x y")] {
        machine.variables.clear();
        for (other, usual) in [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s")] {
            machine.variable(other, if other == name { value } else { usual });
        }
        let (told, lasts, mend) = remedied(&machine, None);
        assert!(
            lasts && told.starts_with(&format!("no credentials from the environment: {name} has ")),
            "{told}"
        );
        assert!(mend.starts_with(&format!("correct {name} where the tunnel has")), "{mend}");
    }
    assert!(machine.server.asked().is_empty());
}

#[test]
fn keys_that_look_like_awss_and_are_cut_off_are_used_but_said_to_be_odd() {
    let told = |id: &str, secret: &str, token: Option<&str>| {
        let credentials = Credentials {
            access_key_id: id.into(),
            secret_access_key: Secret::new(secret.into()),
            session_token: token.map(|token| Secret::new(token.into())),
            expires: None,
            source: "profile \"a b\" of /c (credential_process /p)".into(),
        };
        let identity = identity_of(&credentials);
        assert_eq!(profile_in(&identity), Some("a b"));
        let start = format!("profile \"a b\" of /c (credential_process /p), access key {id}");
        let rest = identity.strip_prefix(&start).unwrap().to_owned();
        assert_eq!(odd_in(&identity).map(|odd| format!(" ({odd})")).unwrap_or_default(), rest);
        rest
    };
    let (id, secret) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    assert_eq!(told(id, secret, None), "");
    assert_eq!(told("ASIAIOSFODNN7EXAMPLE", secret, Some("t")), "");
    assert_eq!(told("AKIDEXAMPLE", "x", None), "", "somebody else's");
    assert_eq!(told(&id[1..], secret, None), "");
    assert_eq!(told(&id[..19], secret, None), " (it has 19 characters, where AWS's have 20)");
    assert_eq!(
        told(id, &secret[1..], None),
        " (its secret key has 39 characters, where AWS's have 40)"
    );
    assert_eq!(
        told("ASIAIOSFODNN7EXAMPLE", secret, None),
        " (it is a temporary one, but there is no aws_session_token with it)"
    );
    assert_eq!(profile_in("role \"r\" of this instance (IMDSv2), access key A"), None);
}

#[test]
fn keys_that_say_of_themselves_that_they_have_expired_are_not_sent() {
    let machine = Machine::new();
    let keys = |profile: &str, expires: &str| {
        let text = format!("[{profile}]\n{KEYS}x_security_token_expires = {expires}\n");
        machine.file("/root/.aws/credentials", &text);
    };
    keys("default", "2020-01-01T00:00:00Z");
    assert_eq!(
        remedied(&machine, None),
        (
            "no credentials from profile \"default\": its keys expired at 2020-01-01T00:00:00Z (it is \
             2025-01-02T03:04:05Z now), as x_security_token_expires in /root/.aws/credentials says"
                .to_owned(),
            true,
            "if the clock here is wrong, have it set (chronyc makestep; timedatectl); else put new keys for \
             profile \"default\" into /root/.aws/credentials, or take a profile whose keys are renewed without a \
             person"
                .to_owned()
        )
    );
    machine.file("/root/.aws/config", "[profile r]\nrole_arn = arn:x\nsource_profile = default\n");
    let (told, lasts, _) = remedied(&machine, Some("r"));
    assert!(lasts && told.contains("source profile \"default\": its keys expired at"), "{told}");
    // AppStream's agent renews these.
    keys(APPSTREAM_PROFILE, "2020-01-01T01:00:00+01:00");
    let (_, lasts, mend) = remedied(&machine, None);
    assert!(!lasts && mend.contains("AppStream's agent"), "{mend}");
    machine.file(
        "/root/.aws/credentials",
        &format!("[default]\n{KEYS}aws_expiration = 2020-01-01T00:00:00.000Z\n"),
    );
    let (told, lasts, _) = remedied(&machine, None);
    assert!(
        lasts && told.contains("now), as aws_expiration in /root/.aws/credentials says"),
        "{told}"
    );
    for later in ["2025-01-02T04:04:05+00:00", "", "some day"] {
        keys("default", later);
        assert_eq!(machine.told(None), "K from profile \"default\" of /root/.aws/credentials");
    }
}

#[test]
fn a_program_without_its_path_is_looked_for_in_folders_that_are_always_the_same() {
    let machine = Machine::new();
    machine.script(
        "/usr/local/aws-cli/v2/dist/aws",
        &format!("echo $0 $* >/proc/self/fd/2; echo '{MADE}'"),
    );
    fs::create_dir_all(machine.root.path().join("usr/local/bin")).unwrap();
    symlink("../aws-cli/v2/dist/aws", machine.root.path().join("usr/local/bin/aws")).unwrap();
    // Neither a folder, nor what nobody may run, is a program.
    fs::create_dir_all(machine.root.path().join("usr/local/sbin/aws")).unwrap();
    assert_eq!(
        process(&machine, "aws configure export-credentials --format process"),
        "P from profile \"p\" of /root/.aws/config (credential_process /usr/local/bin/aws)"
    );
    machine.file("/usr/local/sbin/other", "no program");
    machine.script("/usr/bin/other", &format!("echo '{MADE}'"));
    assert!(process(&machine, "other").ends_with("(credential_process /usr/bin/other)"));
    fs::remove_file(machine.root.path().join("usr/bin/other")).unwrap();
    assert_eq!(
        process(&machine, "other"),
        "/usr/local/sbin/other cannot be run: Permission denied"
    );
    // The first program that is found counts, even if others can change it.
    let path = machine.root.path().join("usr/local/aws-cli/v2/dist/aws");
    machine.script("/usr/bin/aws", &format!("echo '{MADE}'"));
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    let (told, lasts, mend) = remedied(&machine, {
        process(&machine, "aws");
        Some("p")
    });
    assert!(
        told.ends_with(
            "/usr/local/bin/aws is not run: others than root can change it \
         (/usr/local/aws-cli/v2/dist/aws has mode 0777)"
        ),
        "{told}"
    );
    assert!(lasts);
    assert_eq!(mend, "chmod go-w /usr/local/aws-cli/v2/dist/aws");
}

#[test]
fn what_keeps_a_program_from_giving_credentials_has_its_own_cure_and_class() {
    let machine = Machine::new();
    let file = |path: &str, text: &str, mode: u32| {
        let path = machine.file(path, text);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    file("/opt/plain", "echo\n", 0o644);
    file("/opt/bare", "echo\n", 0o755);
    file("/opt/crlf", "#!/bin/sh\r\necho\n", 0o755);
    file("/opt/shell", "#!/bin/sh\nsignin_helper\n", 0o755);
    file(
        "/opt/sso",
        "#!/bin/sh\necho 'Error when retrieving token from sso: Token has expired' >&2\nexit 255\n",
        0o755,
    );
    file("/opt/net", "#!/bin/sh\necho 'Could not connect' >&2\nexit 255\n", 0o755);
    file("/opt/html", "#!/bin/sh\necho '<html>'\n", 0o755);
    file("/opt/two", "#!/bin/sh\necho '{\"Version\": 2}'\n", 0o755);
    file(
        "/opt/time",
        &format!("#!/bin/sh\necho '{}'\n", MADE.replace("2025-01-02T04:00:00Z", "soon")),
        0o755,
    );
    let there = "write the program's whole path, from / on, behind credential_process in profile \"p\": no shell \
                 expands ~ or variables there";
    for (line, lasts, told, mend) in [
        ("bin/x", true, "\"bin/x\" is no absolute path: write it out in full", there),
        ("~/x", true, "\"~/x\" is no absolute path: write it out in full", there),
        (
            "nowhere x",
            true,
            "\"nowhere\" is in none of /usr/local/sbin:",
            "install that program, or write its whole path",
        ),
        (
            "/opt/none",
            true,
            "/opt/none cannot be run: No such file",
            "install /opt/none, or correct credential_process in profile \"p\"",
        ),
        (
            "/opt/plain",
            true,
            "/opt/plain cannot be run: Permission denied",
            "let root run it (chmod 0755 /opt/plain)",
        ),
        (
            "/opt/bare",
            true,
            "/opt/bare cannot be run: it has no #! line at its top",
            "write #!/bin/sh, or what else runs it, at the top of /opt/bare",
        ),
        (
            "/opt/crlf",
            true,
            "/opt/crlf cannot be run: what its #! line names is not there",
            "correct the first line of /opt/crlf",
        ),
        (
            "/opt/shell",
            true,
            "/opt/shell ended with status 127",
            "install what /opt/shell is to run",
        ),
        (
            "/opt/sso",
            true,
            "/opt/sso ended with status 255: Error when",
            "nobody can sign in while a session starts",
        ),
        (
            "/opt/net",
            false,
            "/opt/net ended with status 255: Could not",
            "run the line of credential_process by hand (sudo env -i HOME=/root PATH=",
        ),
        (
            "/opt/html",
            false,
            "/opt/html: what it gave is no JSON object",
            "have /opt/html print what AWS documents",
        ),
        (
            "/opt/two",
            false,
            "/opt/two printed no document of version 1",
            "have /opt/two print what AWS documents",
        ),
        (
            "/opt/time",
            true,
            "/opt/time: what it gave has an Expiration that is no time",
            "have /opt/time print what AWS documents",
        ),
        (
            "\"/opt/x",
            true,
            "the command line has a quote that is not closed",
            "correct credential_process in profile \"p\"",
        ),
    ] {
        process(&machine, line);
        let found = remedied(&machine, Some("p"));
        let start = format!("no credentials from profile \"p\": credential_process {told}");
        assert!(found.0.starts_with(&start), "{}", found.0);
        assert_eq!(found.1, lasts, "{line}");
        assert!(found.2.starts_with(mend), "{}", found.2);
    }
    // The advice helps, where that can be tried here.
    file("/opt/plain", &format!("#!/bin/sh\necho '{MADE}'\n"), 0o755);
    assert!(process(&machine, "/opt/plain").starts_with("P from"));
    file("/opt/crlf", &format!("#!/bin/sh\necho '{MADE}'\n"), 0o755);
    assert!(process(&machine, "/opt/crlf").starts_with("P from"));
}

#[test]
fn a_profile_that_is_wrong_has_the_cure_of_what_is_wrong_with_it() {
    let mut machine = Machine::new();
    machine.file(
        "/root/.aws/credentials",
        &format!("[desk]\n{KEYS}[half]\naws_access_key_id = A\n[profile no]\na = b\n"),
    );
    machine.file(
        "/root/.aws/config",
        "[profile sso]\nsso_session = s\n[profile login]\nlogin_session = arn:x\n[profile mfa]\nrole_arn = r\n\
         mfa_serial = m\n[profile lost]\nrole_arn = r\nsource_profile = Desk\n[mis]\na = b\n[profile a]\n\
         role_arn = r\nsource_profile = a\n[profile c]\nrole_arn = r\ncredential_source = Moon\n[profile e]\n\
         role_arn = r\ncredential_source = Environment\n[profile empty]\nregion = x\n",
    );
    for (profile, told, mend) in [
        (
            "profile desk",
            " (\"profile\" is no part of the name: \"desk\" is there)",
            "name the profile \"desk\", without the word profile",
        ),
        ("DESK", " (\"desk\" is there)", "name the profile \"desk\""),
        (
            "mis",
            " ([mis] in the latter must be [profile mis])",
            "write [profile mis] in /root/.aws/config",
        ),
        (
            "no",
            " ([profile no] in the former must be [no])",
            "write [no] in /root/.aws/credentials",
        ),
        (
            "other",
            "or /root/.aws/config",
            "check the profile other in root's ~/.aws/credentials and ~/.aws/config: make it (sudo aws configure --profile \"other\"; without sudo it is another user's), or name another where this one is named",
        ),
        (
            "half",
            "it has aws_access_key_id, but no aws_secret_access_key",
            "put aws_secret_access_key into profile \"half\" too, or take aws_access_key_id out of it",
        ),
        (
            "empty",
            "nor credential_process",
            "give profile \"empty\" aws_access_key_id and aws_secret_access_key, or role_arn, or credential_process",
        ),
        (
            "sso",
            "it has sso_session, which needs a person who signs in",
            "nobody can do that while a session starts: take profile \"sso\" without sso_session, with keys, role_arn or credential_process, or the role of the fleet",
        ),
        (
            "login",
            "it has login_session, which needs a person who signs in",
            "nobody can do that while a session starts: take profile \"login\" without login_session, with keys, role_arn or credential_process, or the role of the fleet",
        ),
        (
            "mfa",
            "it has mfa_serial, which needs a person who types a code",
            "nobody can do that while a session starts: take profile \"mfa\" without mfa_serial, with keys, role_arn or credential_process, or the role of the fleet",
        ),
        ("lost", " (\"desk\" is there)", "name the profile \"desk\""),
        (
            "a",
            "source_profile leads back to \"a\"",
            "give profile \"a\" keys of its own, or have its source_profile name one that has",
        ),
        (
            "c",
            "nor Environment",
            "write Ec2InstanceMetadata, EcsContainer or Environment behind credential_source in profile \"c\"",
        ),
    ] {
        let found = remedied(&machine, Some(profile));
        assert!(found.0.ends_with(told), "{}", found.0);
        assert!(found.1, "{profile}");
        assert_eq!(found.2, mend);
    }
    let (_, lasts, mend) = remedied(&machine, Some("e"));
    assert!(
        lasts && mend.starts_with("set aws_environment = true in the share, and AWS_ACCESS_KEY_ID"),
        "{mend}"
    );
    machine.variable("AWS_ACCESS_KEY_ID", "A");
    let (_, lasts, mend) = remedied(&machine, None);
    assert!(
        lasts
            && mend
                .starts_with("set AWS_SECRET_ACCESS_KEY too, or take AWS_ACCESS_KEY_ID out, where"),
        "{mend}"
    );
    machine.variables.clear();
    fs::remove_file(machine.root.path().join("root/.aws/credentials")).unwrap();
    symlink("/etc/passwd", machine.root.path().join("root/.aws/credentials")).unwrap();
    let (told, lasts, mend) = remedied(&machine, None);
    assert!(
        lasts
            && told
                .ends_with("/root/.aws/credentials is a symlink: put the file itself in its place"),
        "{told}"
    );
    assert!(
        mend.starts_with("put a file that root can read in the place of /root/.aws/credentials"),
        "{mend}"
    );
    // These errors do not matter either: the other file has this profile.
    machine.file("/root/.aws/config", &format!("[default]\n{KEYS}"));
    assert_eq!(machine.told(None), "K from profile \"default\" of /root/.aws/config");
}

#[test]
fn each_refusal_of_sts_is_told_from_the_others() {
    use Trouble as T;
    let machine = Machine::new();
    with_metadata(&machine.server);
    machine.file("/jwt", "x");
    machine.file(
        "/root/.aws/config",
        "[profile keys]\nrole_arn = arn:x\nsource_profile = base\n[profile base]\naws_access_key_id = B\n\
         aws_secret_access_key = s\n[profile ec2]\nrole_arn = arn:x\ncredential_source = Ec2InstanceMetadata\n\
         [profile web]\nrole_arn = arn:w\nweb_identity_token_file = /jwt\n",
    );
    let refuse = |status: u16, code: &str, message: &str| {
        let body = format!(
            "<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>\
             </Error></ErrorResponse>"
        );
        machine.server.answer("POST /", status, &body);
    };
    for (code, message, expected) in [
        (
            "RegionDisabledException",
            "STS is not activated in this region for account:1.",
            T::Region,
        ),
        ("ExpiredToken", "The security token included in the request is expired", T::Expired),
        ("InvalidClientTokenId", "The security token included in the request is invalid.", T::Keys),
        ("AccessDenied", "User: arn:u is not authorized to perform: sts:AssumeRole", T::Denied),
        ("SignatureDoesNotMatch", "The request signature we calculated does not match", T::Secret),
        (
            "SignatureDoesNotMatch",
            "Signature expired: 20261126T100000Z is now earlier than",
            T::Clock,
        ),
        (
            "SignatureDoesNotMatch",
            "Signature not yet current: 20261126T100000Z is still later",
            T::Clock,
        ),
        ("RequestExpired", "Request has expired.", T::Clock),
        ("IncompleteSignature", "x", T::Keys),
        ("MissingAuthenticationToken", "x", T::Keys),
        (
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration",
            T::Parameters,
        ),
        ("SomethingNew", "x", T::Refused),
    ] {
        refuse(403, code, message);
        let error = machine.find(Some("keys")).unwrap_err();
        assert_eq!(trouble(&error), Some((Service::Sts, expected)), "{code}: {message}");
        let by = match expected {
            T::Keys | T::Secret | T::Expired => {
                " (signed by source profile \"base\", access key B)"
            }
            _ => "",
        };
        let words = format!("role arn:x cannot be assumed: it answered 403: {code}: {message}{by}");
        assert!(error.to_string().ends_with(&words), "{error}");
    }
    // Credentials that are renewed without a person may be good again in a moment.
    refuse(403, "ExpiredToken", "x");
    let error = machine.find(Some("ec2")).unwrap_err();
    assert_eq!(trouble(&error), Some((Service::Sts, T::Stale)));
    assert!(
        error
            .to_string()
            .ends_with(" (signed by credential_source Ec2InstanceMetadata, access key I)")
    );
    for (code, expected) in [
        ("ExpiredTokenException", T::Expired),
        ("InvalidIdentityToken", T::Token),
        ("IDPRejectedClaim", T::Token),
        ("IDPCommunicationError", T::Provider),
        ("AccessDenied", T::Denied),
    ] {
        refuse(400, code, "x");
        let found = trouble(&machine.find(Some("web")).unwrap_err());
        assert_eq!(found, Some((Service::WebIdentity, expected)), "{code}");
    }
    let untrusted =
        r#"{"Code": "AssumeRoleUnauthorizedAccess", "Message": "EC2 cannot assume the role"}"#;
    machine.server.answer(&format!("{ROLES}my-role"), 200, untrusted);
    for profile in [None, Some("ec2")] {
        let error = machine.find(profile).unwrap_err();
        assert_eq!(trouble(&error), Some((Service::Metadata, T::Untrusted)), "{error}");
    }
    machine.server.answer(ROLES, 404, "");
    let (_, lasts, mend) = remedied(&machine, Some("ec2"));
    assert!(!lasts && mend.contains("source_profile = appstream_machine_role"), "{mend}");
}

#[test]
fn words_of_services_and_troubles_are_each_ones_own() {
    // These words must stay: a tunnel of an earlier version sends them, too.
    for word in ["metadata", "sts", "web-identity", "container", "efs"] {
        let text = format!("\"{word}\"");
        let service: Service = crate::json::read(text.as_bytes()).unwrap();
        assert_eq!(crate::json::written(&service), text);
    }
    for word in [
        "unreachable",
        "throttled",
        "failing",
        "tls",
        "denied",
        "keys",
        "secret",
        "expired",
        "stale",
        "clock",
        "region",
        "token",
        "provider",
        "parameters",
        "untrusted",
        "missing",
        "empty",
        "refused",
    ] {
        let text = format!("\"{word}\"");
        let trouble: Trouble = crate::json::read(text.as_bytes()).unwrap();
        assert_eq!(crate::json::written(&trouble), text);
    }
}

#[test]
fn what_efs_says_of_mount_targets_is_told_apart() {
    let machine = Machine::new();
    with_metadata(&machine.server);
    let credentials = machine.find(None).unwrap();
    let arn = "arn:aws:elasticfilesystem:eu-west-1:111122223333:file-system/fs-1";
    let list = "GET /2015-02-01/mount-targets?FileSystemId=";
    let encoded = arn.replace(':', "%3A").replace('/', "%2F");
    machine.server.answer(
        &format!("{list}{encoded}"),
        200,
        r#"{"MountTargets":[{"IpAddress":"10.0.0.1"}]}"#,
    );
    machine.with(|world, until| {
        let found = mount_targets::find(arn, "eu-west-1", &credentials, world, until).unwrap();
        assert_eq!(found[0].address.to_string(), "10.0.0.1");
        for (status, body, expected) in [
            (
                403,
                r#"{"ErrorCode":"AccessDeniedException","Message":"not authorized"}"#,
                Trouble::Denied,
            ),
            (403, r#"{"message":"no","ErrorCode":"UnrecognizedClientException"}"#, Trouble::Keys),
            (404, r#"{"ErrorCode":"FileSystemNotFound","Message":"x"}"#, Trouble::Missing),
            (
                403,
                r#"{"ErrorCode":"InvalidSignatureException","Message":"Signature expired: 1"}"#,
                Trouble::Clock,
            ),
            (500, r#"{"ErrorCode":"InternalServerError"}"#, Trouble::Failing),
            (429, "{}", Trouble::Throttled),
            (200, r#"{"MountTargets":[]}"#, Trouble::Empty),
        ] {
            machine.server.answer(&format!("{list}fs-1"), status, body);
            let error = mount_targets::find("fs-1", "r", &credentials, world, until).unwrap_err();
            assert_eq!(error.trouble(), Some(expected), "{error}");
        }
    });
}
