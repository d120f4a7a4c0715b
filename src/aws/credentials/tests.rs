use super::*;
use crate::aws::http::{Net, Url, tls};
use crate::aws::trust::{Trust, roots};
use crate::aws::{Endpoints, Environment, Metadata, mount_targets};
use crate::stop::{Stop, SystemClock};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const NOW: &str = "2025-01-02T03:04:05Z";

/// A machine of its own: files, and a server that stands for all of AWS.
struct Machine {
    root: tempfile::TempDir,
    variables: Vec<(String, String)>,
    server: Server,
    now: SystemTime,
}

/// What was asked, head and body, and answers by method and path.
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
        let machine = Self { root, variables: Vec::new(), server: Server::start(), now: time(NOW) };
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
        };
        work(&world, Deadline::after(&clock, Duration::from_secs(10)))
    }

    fn find(&self, profile: Option<&str>) -> Result<Credentials, CredentialsError> {
        let wanted = Wanted { profile, region: "eu-central-1" };
        self.with(|world, until| find(&wanted, world, until))
    }

    /// Key id and source of what is found, in words; or the error, with names for what varies.
    fn told(&self, profile: Option<&str>) -> String {
        let told = match self.find(profile) {
            Ok(found) => format!("{} from {}", found.access_key_id, found.source),
            Err(e) => e.to_string(),
        };
        assert!(!told.contains('\n'), "{told}");
        told.replace(&format!("127.0.0.1:{}", self.server.port), "SERVER")
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
        said("[x]\naws_secret_access_key hush\n"),
        "/root/.aws/credentials, line 2: neither a section, nor a key with an equals sign and a \
         value"
    );
    let path = machine.root.path().join("root/.aws/credentials");
    fs::write(&path, b"[x]\n\xff=y\n").unwrap();
    assert!(machine.told(None).ends_with("/root/.aws/credentials is no UTF-8 text"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    assert!(machine.told(None).ends_with(
        "/root/.aws/credentials is not read, since others than root can change it: \
         /root/.aws/credentials has mode 0660; run: chmod go-w /root/.aws/credentials"
    ));
    fs::remove_file(&path).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    assert!(machine.told(None).contains("/root/.aws/credentials is a symlink"));
}

const MADE: &str = r#"{"Version":1,"AccessKeyId":"P","SecretAccessKey":"S","SessionToken":"T","Expiration":"2025-01-02T04:00:00Z"}"#;

/// What becomes of a profile whose `credential_process` is `line`.
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
    // A semicolon behind white space begins a comment, as AWS's own tools have it.
    let mut variables = told.split_off(3);
    assert_eq!(variables.pop(), Some("/"));
    // What the shell of the script adds by itself.
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
    assert_eq!(
        process(&machine, "/opt/p"),
        "no credentials from profile \"p\": what it gave is no JSON object"
    );
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
    assert_eq!(process(&machine, "p"), "\"p\" is no absolute path: write it out in full");
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
    // It ends, but what it leaves behind keeps its outputs open.
    machine.script(
        "/opt/forks",
        &format!("sleep 31338 &\n(sleep 31338 & sleep 31338) &\necho '{MADE}'"),
    );
    let (told, took) = timed("/opt/forks", 5000);
    assert_eq!(told, "P");
    assert!(took < Duration::from_millis(1500), "{took:?}");
    // SIGKILL was sent; what has gone by then has gone.
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
        // It forgets its tokens: one more is asked for, and no more than that.
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
    // Version 1 is what a request without a token would be.
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
        // To this thread alone, which has it blocked: the descriptor shows it.
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
    // Without a zone of our own, in their order.
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
    let mistyped = |profile| machine.find(profile).unwrap_err().is_mistyped();
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
    assert!(!mistyped(None) && !mistyped(Some(APPSTREAM_PROFILE)), "it is being written");
    let path = machine.root.path().join("root/.aws/credentials");
    std::os::unix::fs::chown(path, Some(65534), None).unwrap();
    let error = machine.find(Some("half")).unwrap_err();
    let mend = error.mend().unwrap();
    assert_eq!(mend, "chown root:root /root/.aws/credentials");
    assert!(error.to_string().ends_with(&format!("; run: {mend}")), "{error}");
}

#[test]
fn a_service_in_trouble_is_told_from_a_profile_that_is_wrong() {
    let mut machine = Machine::new();
    let trouble = |machine: &Machine, profile| {
        let wanted = Wanted { profile, region: "eu-west-1" };
        machine.with(|world, until| find(&wanted, world, until)).unwrap_err().trouble()
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
