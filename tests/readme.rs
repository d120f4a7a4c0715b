//! README's troubleshooting table follows from the fault matrix, tests/vm/guest/faults.toml. Where
//! they differ, `UPDATE=1 cargo test --test readme` writes what the matrix says into the README.

#![allow(clippy::unwrap_used)] // a test file that clippy does not know as one

use std::fmt::Write;
use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- from tests/vm/guest/faults.toml -->\n";
const END: &str = "<!-- end -->\n";

/// The matrix as the README has it: for each row that names a cause and a cure, both; of the rows
/// that end well, their names.
fn table(matrix: &toml::Table) -> String {
    let mut out = String::from("| the log says | what to do |\n|---|---|\n");
    let mut told: Vec<(&str, &str)> = Vec::new();
    let rows: Vec<&toml::Table> =
        matrix["row"].as_array().unwrap().iter().map(|row| row.as_table().unwrap()).collect();
    let text = |row: &toml::Table, key: &str| row.get(key).map(|v| v.as_str().unwrap().to_owned());
    let rows_with = |row: &&toml::Table| text(row, "cause").zip(text(row, "cure"));
    let with_both: Vec<(String, String)> =
        rows.iter().copied().filter_map(|r| rows_with(&r)).collect();
    for (cause, cure) in &with_both {
        if !told.contains(&(cause, cure)) {
            told.push((cause, cure));
            // A table's cell ends at a bar, and a code span at a backtick.
            let cell = |text: &str| text.replace('|', "\\|");
            writeln!(out, "| `{}` | {} |", cell(&cause.replace('`', "'")), cell(cure)).unwrap();
        }
    }
    out.push_str("\nThis is waited out, or dealt with, without anybody:\n\n");
    let mut groups: Vec<String> = rows.iter().filter_map(|row| text(row, "group")).collect();
    groups.dedup();
    for group in groups {
        let well = |row: &&&toml::Table| {
            row["exit"].as_integer() == Some(0) && text(row, "group").as_ref() == Some(&group)
        };
        let names: Vec<String> = rows.iter().filter(well).filter_map(|r| text(r, "name")).collect();
        writeln!(out, "- {group}: {}", names.join("; ")).unwrap();
    }
    out
}

#[test]
fn the_troubleshooting_table_follows_from_the_fault_matrix() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let matrix = fs::read_to_string(here.join("tests/vm/guest/faults.toml")).unwrap();
    let wanted = table(&matrix.parse().unwrap());
    let path = here.join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (head, rest) = readme.split_once(BEGIN).unwrap();
    let (found, tail) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, format!("{head}{BEGIN}{wanted}{END}{tail}")).unwrap();
    } else {
        assert!(found == wanted, "run `UPDATE=1 cargo test --test readme`");
    }
}
