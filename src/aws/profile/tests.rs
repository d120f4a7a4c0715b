use super::*;

/// All values, as "profile.key=value".
fn shown(text: &str, kind: ProfileFileKind) -> Vec<String> {
    let read = Profiles::parse(text, kind);
    assert!(read.errors.is_empty(), "{:?}", read.errors);
    let mut all = Vec::new();
    for (name, profile) in &read.profiles {
        all.extend(profile.iter().map(|(key, v)| format!("{name}.{key}={}", v.expose())));
    }
    all
}

#[test]
fn a_credentials_file_is_read_as_the_tools_of_aws_read_it() {
    let text = "\u{feff}# a comment\r\n[default]\r\nAWS_Access_Key_Id = AKID\r\naws_secret_access_key=a=b+c/d#e;f\r\n\
                \n  ; another\n[ other ] # why\n   aws_access_key_id = X # mine\n   aws_secret_access_key =\tY ;\n\
                [default]\naws_session_token = T\n[profile p]\na=b\n[\"with space\"]\nk=\n";
    assert_eq!(
        shown(text, ProfileFileKind::Credentials),
        [
            "default.aws_access_key_id=AKID",
            "default.aws_secret_access_key=a=b+c/d#e;f",
            "default.aws_session_token=T",
            "other.aws_access_key_id=X",
            "other.aws_secret_access_key=Y",
            "with space.k=",
        ]
    );
    let read = Profiles::parse(text, ProfileFileKind::Credentials);
    assert_eq!(read.misnamed, ["p"]);
    assert!(!format!("{read:?}").contains("AKID"));
}

#[test]
fn a_config_file_names_its_profiles_otherwise_and_has_more_than_profiles() {
    let text = "[default]\nregion=a\n[profile one]\nrole_arn = r\ns3 =\n  max = 1\n  # no\n  path = x\nregion = b\n\
                [profile \"two words\"]\nk=v\n[profile\t three]\nk=1\nk=2\n[sso-session s]\nsso_region=c\n[four]\nk=v\n\
                [profile]\nk=w\n[profile ]\nk=w\n";
    assert_eq!(
        shown(text, ProfileFileKind::Config),
        [
            "default.region=a",
            "one.region=b",
            "one.role_arn=r",
            "one.s3=\nmax = 1\npath = x",
            "three.k=2",
            "two words.k=v",
        ]
    );
    let read = Profiles::parse(text, ProfileFileKind::Config);
    assert_eq!(read.misnamed, ["four", "profile", "profile"]);
}

#[test]
fn a_bad_line_is_told_of_by_its_number_and_nothing_of_it_is_shown() {
    let cases = [
        ("key=v\n", 1, "a key before the first section"),
        ("export AWS_ACCESS_KEY_ID=hush", 1, "a command of a shell, and not a key with its value"),
        (
            "[a]\nSET aws_access_key_id=hush\n",
            2,
            "a command of a shell, and not a key with its value",
        ),
        (
            "[a]\n$Env:AWS_ACCESS_KEY_ID=\"hush\"",
            2,
            "a command of a shell, and not a key with its value",
        ),
        ("\n[a\nk=v\n", 2, "a section without its closing bracket"),
        ("[a] b\n", 1, "more text behind a section's closing bracket"),
        ("[a]\nhush\n", 2, "neither a section, nor a key with an equals sign and a value"),
        // A line with a deeper indentation continues the value of the line before it.
        ("[a]\nk=v\n\n = hush\n[b]\n", 5, ""),
        ("[a]\n= hush\n", 2, "no key before the equals sign"),
        ("[a]\n: hush\n", 2, "no key before the equals sign"),
        ("[a]\nk=hush\u{fffd}\n", 2, "it has bytes that are no UTF-8 text"),
        ("[a]\nk=v # gr\u{fffd}n\n# \u{fffd}\n[b]\n", 0, ""),
    ];
    for (text, line, what) in cases {
        let read = Profiles::parse(text, ProfileFileKind::Credentials);
        let told: Vec<String> = read.errors.iter().map(ToString::to_string).collect();
        let expected = format!("line {line}: {what}");
        assert_eq!(told, if what.is_empty() { vec![] } else { vec![expected] }, "{text}");
        assert!(!format!("{read:?}").contains("hush"));
    }
}

#[test]
fn a_bad_line_costs_the_profile_that_it_is_in_and_no_other() {
    let text = "[good]\nk = v\n[bad]\nno separator\nk: a=b\n[other\nk = lost\n[last] x\nk = lost\n";
    let read = Profiles::parse(text, ProfileFileKind::Credentials);
    let line = |profile| read.error_in(profile).map(|error| error.line);
    let lines = ["good", "bad", "other", "last", "none"].map(line);
    assert_eq!(lines, [None, Some(4), Some(6), Some(8), None]);
    assert_eq!(read.error_anywhere(), None);
    // The keys below a section that cannot be read do not belong to the profile above it.
    assert_eq!(read.profiles["good"]["k"].expose(), "v");
    assert_eq!(read.profiles["bad"]["k"].expose(), "a=b");
    assert_eq!((read.line_of("bad", "k"), read.line_of("bad", "j")), (Some(5), None));
    let read = Profiles::parse(
        "[profile a\nk=v\n[sso-session s]\nhush\n[b]\nhush\n",
        ProfileFileKind::Config,
    );
    assert_eq!(read.errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1]);
    assert_eq!(read.errors[0].profile.as_deref(), Some("a"));
    let read = Profiles::parse("k = v\n[default]\nk = w\n", ProfileFileKind::Credentials);
    assert_eq!(read.error_anywhere().map(|error| error.line), Some(1));
    assert_eq!(read.profiles["default"]["k"].expose(), "w");
}

#[test]
fn whichever_separator_comes_first_ends_the_key() {
    let text = "[a]\nk: v\nl :w=x\nm = y:z\nn=arn:aws:iam::1:role/r\no:\n";
    let expected = ["a.k=v", "a.l=w=x", "a.m=y:z", "a.n=arn:aws:iam::1:role/r", "a.o="];
    assert_eq!(shown(text, ProfileFileKind::Credentials), expected);
}

#[test]
fn each_error_has_the_line_that_is_to_be_corrected() {
    let mend = |text: &str| {
        let read = Profiles::parse(text, ProfileFileKind::Credentials);
        read.errors[0].correction(Path::new("/root/.aws/credentials"))
    };
    assert_eq!(mend("[a]\nb"), "correct line 2 of /root/.aws/credentials");
    assert_eq!(
        mend("a = b"),
        "put the name of the profile in brackets above line 1 of /root/.aws/credentials, for \
         instance [default]"
    );
    assert_eq!(
        mend("[a]\nexport AWS_ACCESS_KEY_ID=b"),
        "write the keys without export, set or $env: from line 2 of /root/.aws/credentials on, \
         below the name of the profile in brackets: [default], then aws_access_key_id = …"
    );
    assert_eq!(
        mend("[a]\nb = \u{fffd}"),
        "correct line 2 of /root/.aws/credentials, and save that as UTF-8"
    );
}

#[test]
fn a_command_line_is_split_at_spaces_and_by_quotes_and_by_nothing_else() {
    let line = r#""/opt/my tool" --a 'b "c"' "d \"e\" \f" g\ h '' $HOME;x>y `z`|~ 	last"#;
    assert_eq!(
        words(line).unwrap(),
        ["/opt/my tool", "--a", "b \"c\"", "d \"e\" \\f", "g h", "", "$HOME;x>y", "`z`|~", "last"]
    );
    assert_eq!(words("  ").unwrap(), [""; 0]);
    assert_eq!(words("a\nb").unwrap(), ["a", "b"]);
    assert_eq!(words("a \"b"), Err("a quote that is not closed"));
    assert_eq!(words("a 'b\\"), Err("a quote that is not closed"));
    assert_eq!(words("a \"b\\"), Err("a quote that is not closed"));
    assert_eq!(words("a\\"), Err("a backslash at its end"));
}
