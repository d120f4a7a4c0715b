use super::super::credentials::Secret;
use super::*;
use crate::sys;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the expected certificates.
fn vectors() -> PathBuf {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    std::env::var_os("EFS_AGENT_VECTORS").map_or_else(|| here.into(), PathBuf::from)
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2) && text.is_ascii(), "{text}");
    let byte = |place| u8::from_str_radix(&text[place..place + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn credentials_of(vector: &Value) -> Option<Credentials> {
    let value = vector.get("credentials").filter(|value| !value.is_null())?;
    let secret = |name: &str| value[name].as_str().map(|text| Secret::new(text.into()));
    Some(Credentials {
        access_key_id: value["access_key_id"].as_str().unwrap().into(),
        secret_access_key: secret("secret_access_key").unwrap(),
        session_token: secret("session_token"),
        expires: None,
        source: "a vector".into(),
    })
}

/// Checks all that one vector says about the result.
fn check(key: &Key, vector: &Value) {
    let name = vector["name"].as_str().unwrap();
    let text = |name: &str| vector[name].as_str();
    let credentials = credentials_of(vector);
    let now = humantime::parse_rfc3339(text("now").unwrap()).unwrap();
    let request = CertificateRequest {
        common_name: text("common_name").unwrap(),
        file_system_id: text("file_system_id").unwrap(),
        region: text("region").unwrap(),
        access_point: text("access_point_id"),
        credentials: credentials.as_ref(),
        client: (text("client_source").unwrap(), text("client_version").unwrap()),
        now,
    };
    for (told, value) in vector.as_object().unwrap() {
        let value = value.as_str();
        let signed = || {
            let credentials = credentials.as_ref().unwrap();
            signature::connect_parts(
                key.sha1(),
                request.file_system_id,
                request.region,
                credentials,
                now,
            )
        };
        match told.as_str() {
            "public_key_sha1" => assert_eq!(Some(&*hex(key.sha1())), value, "{name}"),
            "canonical_request" => assert_eq!(Some(&**signed().0), value, "{name}"),
            "string_to_sign" => assert_eq!(Some(&*signed().1), value, "{name}"),
            "signature" => assert_eq!(Some(&*signed().2), value, "{name}"),
            "certificate_der_hex" => {
                let minted = mint(key, &request).unwrap();
                assert_eq!(hex(&minted), value.unwrap(), "{name}");
            }
            // The other keys are the input, or what the whole certificate proves by itself.
            _ => {}
        }
    }
    assert!(text("certificate_der_hex").is_some(), "{name} has no certificate");
}

#[test]
fn certificates_are_byte_for_byte_those_of_efs_utils() {
    let folder = vectors();
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut checked = 0;
    for file in files {
        let path = file.unwrap().path();
        // Other files lie beside the vectors.
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let document: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let pkcs8 = unhex(document["rsa_3072_key_pkcs8_der_hex"].as_str().unwrap());
        let key = Key::from_pkcs8(&pkcs8).unwrap();
        for vector in document["vectors"].as_array().unwrap() {
            check(&key, vector);
            checked += 1;
        }
    }
    assert!(checked > 0, "{} holds no vector", folder.display());
}

#[test]
fn a_key_is_the_same_after_it_was_written_out_and_shows_nothing_of_itself() {
    let key = Key::generate().unwrap();
    let pkcs8 = key.pkcs8().unwrap();
    let again = Key::from_pkcs8(&pkcs8).unwrap();
    assert_eq!(again.sha1(), key.sha1());
    assert_eq!(*again.pkcs8().unwrap(), *pkcs8);
    assert_eq!(key.pair.public_modulus_len(), 3072 / 8);
    assert_ne!(Key::generate().unwrap().sha1(), key.sha1());
    assert_eq!(format!("{key:?}"), format!("Key({})", hex(key.sha1())));
    let cut = Key::from_pkcs8(&pkcs8[..pkcs8.len() - 1]).unwrap_err();
    assert_eq!(cut.to_string(), "the key is no RSA key in PKCS #8: InvalidEncoding");
    assert!(matches!(Key::from_pkcs8(b""), Err(CertificateError::BadKey(_))));
}

/// Random input; the same seed makes the same input.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % most
    }

    fn text(&mut self, letters: &str, shortest: usize, longest: usize) -> String {
        let letters: Vec<char> = letters.chars().collect();
        let length = shortest + self.below(longest - shortest + 1);
        (0..length).map(|_| letters[self.below(letters.len())]).collect()
    }
}

const HEX: &str = "0123456789abcdef";
const NAMES: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
const BASE64: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/+=";

fn openssl(arguments: &[&str], file: &Path) -> String {
    let output = Command::new("openssl").args(arguments).arg(file).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// Compares what openssl's parser shows of the certificate with what it was made from.
fn is_read_back(key: &Key, request: &CertificateRequest<'_>, folder: &Path) {
    let file = folder.join("certificate");
    fs::write(&file, mint(key, request).unwrap()).unwrap();
    let shown = openssl(
        &[
            "x509",
            "-inform",
            "DER",
            "-text",
            "-certopt",
            "ext_parse",
            "-dates",
            "-dateopt",
            "iso_8601",
            "-nameopt",
            "utf8,sep_comma_plus_space",
            "-in",
        ],
        &file,
    );
    // Its own key verifies its signature. The text holds the certificate as PEM, too.
    fs::write(&file, &shown).unwrap();
    let itself = file.to_str().unwrap();
    let verified =
        openssl(&["verify", "-check_ss_sig", "-no_check_time", "-CAfile", itself], &file);
    assert!(verified.ends_with(": OK\n"), "{verified}");
    let line = |start: &str| {
        let mut lines = shown.lines().filter_map(|line| line.trim().strip_prefix(start));
        let line = lines.next().unwrap_or_else(|| panic!("no {start:?} in\n{shown}"));
        line.trim_start()
    };
    let time =
        |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string().replace('T', " ");
    let cut: String = request.common_name.chars().take(64).collect();
    assert_eq!(line("Version:"), "3 (0x2)");
    assert_eq!(line("Serial Number:"), "0 (0x0)");
    assert_eq!(line("Signature Algorithm:"), "sha256WithRSAEncryption");
    assert_eq!(line("Public-Key:"), "(3072 bit)");
    for of in ["Issuer:", "Subject:"] {
        assert_eq!(line(of).replace("CN = ", "CN="), format!("CN={cut}"));
    }
    assert_eq!(line("notBefore="), time(request.now - BEFORE));
    assert_eq!(line("notAfter="), time(request.now + AFTER));
    let sha1 = hex(key.sha1()).to_uppercase();
    let sha1: Vec<&str> = (0..20).map(|n| &sha1[2 * n..2 * n + 2]).collect();
    let extensions = shown.split_once("X509v3 extensions:").unwrap().1;
    let extensions = extensions.split_once("    Signature Algorithm:").unwrap().0;
    assert!(!extensions.contains("critical"), "{extensions}");
    assert!(extensions.contains(&sha1.join(":")), "{extensions}");
    // Each extension's number, and the values in it.
    let read: Vec<String> = extensions
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            if let Some(number) = line.strip_prefix("1.3.6.1.4.1.4843.7.") {
                return Some(number.trim_end_matches([' ', ':']).to_owned());
            }
            let (_, primitive) = line.split_once("prim: ")?;
            let (kind, value) = primitive.split_once(':').unwrap_or((primitive, ""));
            Some(format!("{}:{value}", kind.trim()))
        })
        .collect();
    let stamp = signature::stamp(request.now)[2..].replace('T', "");
    let mut made = Vec::new();
    if let Some(id) = request.access_point {
        made.extend(["1".into(), format!("UTF8STRING:{id}")]);
    }
    if let Some(credentials) = request.credentials {
        let (id, region) = (request.file_system_id, request.region);
        let signed = signature::connect(key.sha1(), id, region, credentials, request.now);
        made.extend([
            "2".into(),
            format!("UTF8STRING:{}", credentials.access_key_id),
            format!("OCTET STRING:{signed}"),
            format!("UTCTIME:{stamp}"),
        ]);
        let token = credentials.session_token.as_ref();
        made.extend(token.map(|token| format!("UTF8STRING:{}", token.expose())));
    }
    made.extend(["3".into(), format!("UTF8STRING:{}", request.file_system_id), "4".into()]);
    made.extend([request.client.0, request.client.1].map(|text| format!("UTF8STRING:{text}")));
    assert_eq!(read, made);
}

/// `CERTIFICATES=10000` makes that many.
#[test]
fn what_openssl_reads_is_what_a_certificate_was_made_from() {
    let debian = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/debian.sh");
    assert!(Command::new(debian).args(["test", "openssl"]).status().unwrap().success());
    let count = std::env::var("CERTIFICATES").map_or(100, |count| count.parse().unwrap());
    let seed = sys::random() | 1;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let key = Key::generate().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..count {
        let dice = &mut dice;
        let mut common_name = dice.text(NAMES, 1, 100);
        if dice.below(8) == 0 {
            common_name.insert_str(0, &dice.text("äßŁ字𝄞", 1, 20));
        }
        let id = |dice: &mut Dice| {
            let length = if dice.below(4) == 0 { 8 } else { 17 };
            dice.text(HEX, length, length)
        };
        let file_system_id = format!("fs-{}", id(dice));
        let access_point = (dice.below(2) == 0).then(|| format!("fsap-{}", id(dice)));
        let credentials = (dice.below(4) > 0).then(|| Credentials {
            access_key_id: dice.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 16, 128),
            secret_access_key: Secret::new(dice.text(BASE64, 1, 80)),
            session_token: (dice.below(3) > 0).then(|| {
                let longest = [100, 200, 300, 2000, 70_000][dice.below(5)];
                Secret::new(dice.text(BASE64, 1, longest))
            }),
            expires: None,
            source: "dice".into(),
        });
        let (source, version) = (dice.text(NAMES, 1, 30), dice.text("0123456789.", 1, 10));
        // Times from a quarter of an hour after 1970 began to 2049, when UTCTime ends.
        let now = SystemTime::UNIX_EPOCH + BEFORE;
        let now = now + Duration::from_secs(dice.below(2_524_600_000 - 12_000) as u64);
        let request = CertificateRequest {
            common_name: &common_name,
            file_system_id: &file_system_id,
            region: "eu-central-1",
            access_point: access_point.as_deref(),
            credentials: credentials.as_ref(),
            client: (&source, &version),
            now,
        };
        is_read_back(&key, &request, folder.path());
    }
}
