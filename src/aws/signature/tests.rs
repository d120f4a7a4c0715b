use super::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn time(text: &str) -> SystemTime {
    humantime::parse_rfc3339(text).unwrap()
}

fn credentials(id: &str, secret: &str, token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: id.into(),
        secret_access_key: Secret::new(secret.into()),
        session_token: token.map(|token| Secret::new(token.into())),
        expires: None,
        source: "a test".into(),
    }
}

fn document(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sigv4").join(name);
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// A query string as names and values; in the documents these are not encoded.
fn pairs(query: &str) -> Vec<(&str, &str)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, ""))).collect()
}

/// The headers of a test in the document, without those that signing adds.
fn headers(request: &Value) -> Vec<(&str, &str)> {
    let added = ["x-amz-date", "x-amz-security-token"];
    let headers = request["headers"].as_array().unwrap().iter();
    headers
        .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
        .filter(|(name, _)| !added.contains(&name.to_ascii_lowercase().as_str()))
        .collect()
}

/// Compares each step of signing with the document. Gives the number of tests in it.
fn agrees_with(document: &Value) -> usize {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let tests = document["tests"].as_array().unwrap();
    for test in tests {
        let of = |name: &str| test.get(name).unwrap_or(&document[name]);
        let name = text(&test["name"]);
        let request = &test["request"];
        let (service, region) = (text(of("service")), text(of("region")));
        let (id, secret) = (text(of("access_key_id")), text(of("secret_access_key")));
        let token = text(&document["session_token"]);
        // The token is signed only where the document signs it, too.
        let token = text(&test["creq"]).contains("x-amz-security-token").then_some(&*token);
        let (method, path) = (text(&request["method"]), text(&request["path"]));
        let (query, body) = (text(&request["query"]), text(&request["body"]));
        let api = ApiRequest {
            method: &method,
            path: &path,
            query: &pairs(&query),
            headers: &headers(request),
            body: body.as_bytes(),
            region: &region,
            service: &service,
        };
        let signer = credentials(&id, &secret, token);
        let now = text(&test["sts"]).lines().nth(1).unwrap().to_owned();
        let (day, hour) = (&now[..8], &now[9..15]);
        let rfc = format!(
            "{}-{}-{}T{}:{}:{}Z",
            &day[..4],
            &day[4..6],
            &day[6..],
            &hour[..2],
            &hour[2..4],
            &hour[4..]
        );
        let mut all = api.headers.to_vec();
        all.push(("X-Amz-Date", &now));
        all.extend(token.map(|token| ("X-Amz-Security-Token", token)));
        let (creq, _) = canonical(&ApiRequest { headers: &all, ..api });
        assert_eq!(*creq, text(&test["creq"]), "{name}");
        let scope = scope(&now, &region, &service);
        assert_eq!(string_to_sign(&creq, &now, &scope), text(&test["sts"]), "{name}");
        let new = authorize(&api, &signer, time(&rfc));
        let new: Vec<(&str, &str)> = new.iter().map(|(name, v)| (*name, v.expose())).collect();
        assert_eq!(new.last(), Some(&("Authorization", &*text(&test["authz"]))), "{name}");
        assert_eq!(new[0], ("X-Amz-Date", &*now), "{name}");
        assert_eq!(new.len(), 2 + usize::from(token.is_some()), "{name}");
    }
    tests.len()
}

#[test]
fn requests_are_signed_as_in_the_suite_that_aws_has_published() {
    assert_eq!(agrees_with(&document("aws.json")), 22);
}

#[test]
fn the_requests_that_we_make_are_signed_as_botocore_signs_them() {
    assert_eq!(agrees_with(&document("botocore.json")), 4);
}

#[test]
fn the_space_around_and_in_a_header_is_made_one_or_none() {
    let headers = [("Host", " a "), ("B", "  x \t y  "), ("a", "2"), ("b", "z")];
    let request = ApiRequest {
        method: "GET",
        path: "/ä b/*",
        query: &[("b", "x=y&z +"), ("a-b", "1"), ("a", "2"), ("a", "10"), ("a.", "")],
        headers: &headers,
        body: b"",
        region: "r",
        service: "s",
    };
    let (text, names) = canonical(&request);
    assert_eq!(names, "a;b;host");
    assert_eq!(
        text.lines().collect::<Vec<_>>()[..8],
        [
            "GET",
            "/%C3%A4%20b/%2A",
            "a=10&a=2&a-b=1&a.=&b=x%3Dy%26z%20%2B",
            "a:2",
            "b:x y,z",
            "host:a",
            "",
            "a;b;host",
        ]
    );
}

#[test]
fn a_token_for_efs_is_quoted_as_a_form_quotes_it() {
    let signer = credentials("AK/ID", "secret", Some("a b+c/d=e~f\u{e4}"));
    let (request, ..) =
        connect_parts(&[0xab; 20], "fs-1", "r", &signer, time("2025-01-02T03:04:05Z"));
    let query = request.lines().nth(2).unwrap();
    assert!(query.contains("&X-Amz-Security-Token=a+b%2Bc%2Fd%3De~f%C3%A4&"), "{query}");
    assert!(query.contains("&X-Amz-Credential=AK%2FID%2F20250102%2Fr%2Felastic"), "{query}");
    assert!(query.contains(&format!("&PublicKeyHash={}&", "ab".repeat(20))), "{query}");
    let rest: Vec<&str> = request.lines().skip(3).collect();
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(rest, ["host:fs-1", "host", nothing]);
}

#[test]
fn no_clock_is_too_wrong_to_be_written_down() {
    let epoch = SystemTime::UNIX_EPOCH;
    assert_eq!(stamp(epoch + Duration::from_secs(951_827_696)), "20000229T123456Z");
    assert_eq!(stamp(epoch - Duration::from_secs(5)), "19700101T000000Z");
    assert_eq!(stamp(epoch + Duration::from_secs(u64::MAX / 4)), "99991231T235959Z");
}

#[test]
fn secrets_are_not_in_what_is_shown_of_credentials() {
    let signer = credentials("AKID", "hush", Some("whisper"));
    let shown = format!("{signer:?} {:?}", authorize(&request(), &signer, SystemTime::UNIX_EPOCH));
    assert!(shown.contains("AKID"), "{shown}");
    assert!(!shown.contains("hush") && !shown.contains("whisper"), "{shown}");
}

fn request() -> ApiRequest<'static> {
    ApiRequest {
        method: "GET",
        path: "/",
        query: &[],
        headers: &[("host", "a")],
        body: b"",
        region: "r",
        service: "s",
    }
}
