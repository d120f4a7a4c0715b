//! Compares the picture of the floors in lib.rs with the imports of src. What a room does is not looked at here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A path in the source that leads into a room of this crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    /// The file, below src.
    file: PathBuf,
    line: usize,
    /// The names behind `crate::`, as far as they are written in small letters: rooms, files and functions.
    path: Vec<String>,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line) = (self.file.display(), self.line);
        write!(f, "src/{file}:{line}: {} → {}", room(&self.file), self.path.join("::"))
    }
}

/// The room that a file below src belongs to.
fn room(file: &Path) -> String {
    let first = file.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The floors of the picture in `text`, the top one first: the lines of the first block that is marked as text.
fn floors(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let picture = lines.skip_while(|line| *line != "```text").skip(1);
    let names = |line: &str| line.split(',').map(|name| name.trim().to_owned()).collect();
    picture.take_while(|line| *line != "```").map(names).collect()
}

/// The imports that the picture does not allow, each as one line that says why.
fn arrows_up(floors: &[Vec<String>], imports: &[Import]) -> Vec<String> {
    let floor = |room: &str| floors.iter().position(|names| names.iter().any(|name| name == room));
    let wrong = |import: &Import| {
        let (from, to) = (room(&import.file), import.path.first()?);
        if from == *to || from == "lib" {
            return None;
        }
        match (floor(&from), floor(to)) {
            (Some(from), Some(to)) if from < to => None,
            (Some(from), Some(to)) if from == to => Some(format!("{import} is on its own floor")),
            (Some(_), Some(_)) => Some(format!("{import} points up")),
            (None, _) => Some(format!("{import}: {from} has no floor in lib.rs")),
            (_, None) => Some(format!("{import}: {to} has no floor in lib.rs")),
        }
    };
    imports.iter().filter_map(wrong).collect()
}

/// The circles between the files that lie side by side in one room: pairs of files that lead to each other, directly or
/// through others. A file and the files below it belong together and are no circle.
fn circles(imports: &[Import]) -> BTreeSet<(String, String)> {
    let mut next: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for import in imports {
        let (from, to) = (module(&import.file), &import.path);
        let common = from.iter().zip(to).take_while(|(from, to)| from == to).count();
        if common > 0 && common < from.len() && common < to.len() {
            let (from, to) = (from[..=common].join("::"), to[..=common].join("::"));
            next.entry(from).or_default().insert(to);
        }
    }

    let mut reached = next.clone();
    loop {
        let before = reached.clone();
        for all in reached.values_mut() {
            let more = all.iter().filter_map(|file| before.get(file)).flatten().cloned();
            all.extend(more.collect::<Vec<_>>());
        }
        if reached == before {
            break;
        }
    }

    let leads = |from: &str, to: &str| reached.get(from).is_some_and(|all| all.contains(to));
    let pairs = reached.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to)));
    let round = pairs.filter(|(from, to)| from < to && leads(to, from));
    round.map(|(from, to)| (from.clone(), to.clone())).collect()
}

/// All imports in the shipping code below `src`.
fn imports(src: &Path) -> Vec<Import> {
    let mut files = BTreeMap::new();
    read_folder(src, src, &mut files);
    let shipping: BTreeMap<&PathBuf, String> =
        files.iter().map(|(file, text)| (file, without_tests(&without_text(text)))).collect();

    let mut only_tests = BTreeSet::new();
    for (file, text) in &files {
        for name in test_modules(&without_text(text)) {
            let stem = file.with_extension("");
            let is_head =
                ["mod", "lib", "main"].contains(&stem.file_name().unwrap().to_str().unwrap());
            let folder = if is_head { file.parent().unwrap().to_owned() } else { stem };
            only_tests.insert(folder.join(name));
        }
    }

    let ships =
        |file: &Path| !only_tests.iter().any(|test| file.with_extension("").starts_with(test));
    let found = shipping.iter().filter(|(file, _)| ships(file));
    found.flat_map(|(file, text)| imports_of(file, text)).collect()
}

fn read_folder(src: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_folder(src, &path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.insert(path.strip_prefix(src).unwrap().to_owned(), text);
        }
    }
}

/// The module that a file below src is.
fn module(file: &Path) -> Vec<String> {
    let file = file.with_extension("");
    let mut names: Vec<String> =
        file.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    names.pop_if(|last| last == "mod");
    names
}

/// The paths into this crate: those that begin with `crate::`, with `super::`, or with the crate's name in main.rs.
fn imports_of(file: &Path, text: &str) -> Vec<Import> {
    let mut found = Vec::new();
    for start in ["crate::", "efs_agent::", "super::"] {
        for (at, _) in text.match_indices(start) {
            if text[..at].ends_with(|c: char| is_name(c) || c == ':') {
                continue;
            }

            let mut above = Vec::new();
            let mut rest = &text[at + start.len()..];
            if start == "super::" {
                above = module(file);
                above.pop();
                while let Some(more) = rest.strip_prefix(start) {
                    above.pop();
                    rest = more;
                }
            }

            let line = text[..at].matches('\n').count() + 1;
            let paths = paths(&above, rest).into_iter().filter(|path| !path.is_empty());
            found.extend(paths.map(|path| Import { file: file.to_owned(), line, path }));
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The paths that `text` begins with, behind `above`: more than one where braces hold several. Each ends before the
/// first name that belongs to neither a module nor a function.
fn paths(above: &[String], text: &str) -> Vec<Vec<String>> {
    let name = text.split(|c| !is_name(c)).next().unwrap();
    let rest = &text[name.len()..];
    if let Some(group) = text.strip_prefix('{') {
        return members(group).into_iter().flat_map(|member| paths(above, member)).collect();
    }
    // A macro belongs to no module: it is exported at the root of the crate.
    let is_small = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !is_small || name == "self" || rest.starts_with('!') {
        return vec![above.to_vec()];
    }

    let path = [above, &[name.to_owned()]].concat();
    match rest.strip_prefix("::") {
        Some(rest) => paths(&path, rest),
        None => vec![path],
    }
}

/// The members of a group, up to the brace that ends it.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                found.push(group[start..at].trim());
                break;
            }
            ',' if depth == 0 => {
                found.push(group[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The source with blanks in the place of comments, strings and characters; lines stay where they are.
fn without_text(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            end_of_string(rest)
        } else if let Some(hashes) =
            raw_string(rest).filter(|_| !out.ends_with(char::is_alphanumeric))
        {
            let end = format!("\"{hashes}");
            let open = 1 + end.len();
            rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len())
        } else if first == '\'' {
            end_of_character(rest)
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..length].chars().map(|c| if c == '\n' { c } else { ' ' }));
        rest = &rest[length..];
    }
    out
}

/// The hashes of a raw string that `text` begins with.
fn raw_string(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('r')?;
    let hashes = &rest[..rest.len() - rest.trim_start_matches('#').len()];
    rest[hashes.len()..].starts_with('"').then_some(hashes)
}

fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Where a character ends that `text` begins with. A lifetime begins with the same quote, and only that is passed.
fn end_of_character(text: &str) -> usize {
    let second = text.chars().nth(1).unwrap_or(' ');
    let from = 1 + second.len_utf8();
    if second == '\\' {
        let from = from + text[from..].chars().next().map_or(0, char::len_utf8);
        return text[from..].find('\'').map_or(1, |at| from + at + 1);
    }
    if text[from..].starts_with('\'') { from + 1 } else { 1 }
}

const MARKS: [&str; 3] = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]", "#[cfg(fuzzing)]"];

/// The first item that is marked for tests, from its mark to its end.
fn test_item(source: &str) -> Option<std::ops::Range<usize>> {
    let start = MARKS.iter().filter_map(|mark| source.find(mark)).min()?;
    let mut depth = 0;
    for (at, c) in source[start..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (c == '}' || c == ';') {
            return Some(start..start + at + 1);
        }
    }
    Some(start..source.len())
}

/// `source` without the items that are marked for tests; lines stay where they are.
fn without_tests(source: &str) -> String {
    let mut out = source.to_owned();
    while let Some(item) = test_item(&out) {
        let blank: String =
            out[item.clone()].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        out.replace_range(item, &blank);
    }
    out
}

/// The modules in separate files that are marked for tests.
fn test_modules(source: &str) -> Vec<String> {
    let mut rest = source;
    let mut found = Vec::new();
    while let Some(item) = test_item(rest) {
        let text = &rest[item.clone()];
        let name = text.strip_suffix(';').and_then(|text| text.split_once("mod "));
        found.extend(name.map(|(_, name)| name.trim().to_owned()));
        rest = &rest[item.end..];
    }
    found
}

mod tests {
    use super::*;

    fn src() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
    }

    #[test]
    fn every_import_goes_down_in_the_picture_of_lib_rs() {
        let floors = floors(&fs::read_to_string(src().join("lib.rs")).unwrap());
        let imports = imports(&src());
        assert!(floors.len() > 5 && imports.len() > 300, "{floors:?}, {} imports", imports.len());
        let wrong = arrows_up(&floors, &imports);
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }

    #[test]
    fn no_two_files_of_a_room_lead_to_each_other() {
        let circles = circles(&imports(&src()));
        let named: Vec<String> = circles
            .iter()
            .map(|(one, other)| format!("{one} and {other} lead to each other"))
            .collect();
        assert!(named.is_empty(), "\n{}", named.join("\n"));
    }

    #[test]
    fn an_import_that_points_up_is_named_with_file_line_and_arrow() {
        let picture =
            "//! Rooms.\n//!\n//! ```text\n//! top\n//! left, right\n//! low\n//! ```\nmod low;";
        let floors = floors(picture);
        assert_eq!(floors, [vec!["top"], vec!["left", "right"], vec!["low"]]);
        let wrong = |file: &str, text: &str| {
            let text = without_tests(&without_text(text));
            arrows_up(&floors, &imports_of(Path::new(file), &text)).join("; ")
        };
        assert_eq!(wrong("top.rs", "use crate::left::x::Y;\nuse crate::low::z;"), "");
        let up = "//! `crate::top`\nuse crate::low::a;\nlet b = \"crate::top\"; crate::top::c();";
        assert_eq!(wrong("left/x.rs", up), "src/left/x.rs:3: left → top::c points up");
        let beside = "src/left.rs:1: left → right::a is on its own floor";
        assert_eq!(wrong("left.rs", "use crate::right::a;"), beside);
        assert!(wrong("low.rs", "use crate::new::A;").ends_with("new has no floor in lib.rs"));
        let tests = "#[cfg(test)]\nmod tests {\n    use crate::top::a;\n}\nuse crate::left::b;";
        assert_eq!(wrong("low.rs", tests), "src/low.rs:5: low → left::b points up");
    }

    #[test]
    fn files_that_lead_to_each_other_are_found_however_far_round() {
        let import = |file: &str, path: &str| Import {
            file: file.into(),
            line: 1,
            path: path.split("::").map(str::to_owned).collect(),
        };
        let inside = imports_of(Path::new("a/x/y.rs"), "use super::z::{T, f, g::{self, h}};");
        let inside: Vec<String> = inside.iter().map(|import| import.path.join("::")).collect();
        assert_eq!(inside, ["a::x::z", "a::x::z::f", "a::x::z::g", "a::x::z::g::h"]);
        let there =
            [import("a/x.rs", "a::y"), import("a/y/mod.rs", "a::z::f"), import("a/mod.rs", "a::x")];
        assert!(circles(&there).is_empty());
        let back = [&there[..], &[import("a/z.rs", "a::x")]].concat();
        assert_eq!(circles(&back).len(), 3);
    }

    #[test]
    fn what_only_tests_use_is_passed_over() {
        let text = "fn a<'a>(c: char) { c == '\\'' || c == '\"'; r#\"x\" crate::a\"#; }\n#[cfg(test)]\nmod more;\n\
                    #[cfg(any(test, fuzzing))]\npub fn fake() { crate::b(); }\nuse crate::c;\n";
        let bare = without_text(text);
        assert_eq!(test_modules(&bare), ["more"]);
        let left = without_tests(&bare);
        assert_eq!(imports_of(Path::new("m.rs"), &left).len(), 1);
        assert_eq!(left.lines().count(), text.lines().count());
    }
}
