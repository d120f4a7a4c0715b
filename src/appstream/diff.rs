//! Shows what edits change in a text, line by line, in the form of `diff -U2` without its head. Changes nothing itself.

use super::edit::{Edit, apply};
use crate::text::misleads;
use std::ops::Range;

/// Lines of context around a change.
const CONTEXT: usize = 2;

/// What `edits`, which are sorted, change in `old`. Empty if that is nothing.
pub fn diff(old: &str, edits: &[Edit]) -> String {
    let old = OldText::of(old);
    let changes = changes(&old, edits);
    let mut diff = Diff { old: &old, out: String::new(), removed: 0, added: 0 };

    let mut rest = changes.as_slice();
    while !rest.is_empty() {
        // As many changes as have no more than their contexts between them are one hunk.
        let last = rest.windows(2).position(are_apart).unwrap_or(rest.len() - 1);
        let (hunk, others) = rest.split_at(last + 1);
        diff.hunk(hunk);
        rest = others;
    }
    diff.out
}

/// The text before the edits.
struct OldText<'t> {
    text: &'t str,
    lines: Vec<&'t str>,
    /// Where each line begins, and where the last one ends.
    starts: Vec<usize>,
}

impl<'t> OldText<'t> {
    fn of(text: &'t str) -> Self {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut starts = vec![0];
        let mut end = 0;
        for line in &lines {
            end += line.len();
            starts.push(end);
        }
        Self { text, lines, starts }
    }

    /// The line that `place` is in; behind the end of the text, the last one.
    fn line_of(&self, place: usize) -> usize {
        let after = self.starts.partition_point(|start| *start <= place);
        after.saturating_sub(1).min(self.lines.len().saturating_sub(1))
    }

    fn start(&self, line: usize) -> usize {
        self.starts.get(line).copied().unwrap_or(self.text.len())
    }

    fn get(&self, lines: Range<usize>) -> &[&'t str] {
        self.lines.get(lines).unwrap_or(&[])
    }
}

/// Old lines, and the new ones in their place.
struct ChangedLines {
    old: Range<usize>,
    new: Vec<String>,
}

fn changes(old: &OldText<'_>, edits: &[Edit]) -> Vec<ChangedLines> {
    // Edits in the same or in touching lines are one change.
    let mut groups: Vec<(Range<usize>, Vec<Edit>)> = Vec::new();
    for edit in edits {
        let first = old.line_of(edit.span.start);
        let end = (old.line_of(edit.span.end) + 1).min(old.lines.len());
        match groups.last_mut() {
            Some((lines, edits)) if first <= lines.end => {
                lines.end = lines.end.max(end);
                edits.push(edit.clone());
            }
            _ => groups.push((first..end, vec![edit.clone()])),
        }
    }

    let changes = groups.into_iter().map(|(lines, edits)| ChangedLines::of(old, lines, edits));
    changes.filter(|change| !change.old.is_empty() || !change.new.is_empty()).collect()
}

impl ChangedLines {
    /// What `edits` make of `lines`, without what is the same at both ends.
    fn of(old: &OldText<'_>, mut lines: Range<usize>, mut edits: Vec<Edit>) -> Self {
        let (start, end) = (old.start(lines.start), old.start(lines.end));
        for edit in &mut edits {
            edit.span = edit.span.start - start..edit.span.end - start;
        }
        let new = apply(old.text.get(start..end).unwrap_or(""), &edits);
        let mut new: Vec<String> = new.split_inclusive('\n').map(str::to_owned).collect();

        let before = old.get(lines.clone());
        let same = before.iter().zip(&new).take_while(|(old, new)| old == new).count();
        lines.start += same;
        new.drain(..same);

        let before = old.get(lines.clone());
        let pairs = before.iter().rev().zip(new.iter().rev());
        let same = pairs.take_while(|(old, new)| old == new).count();
        lines.end -= same;
        new.truncate(new.len() - same);
        Self { old: lines, new }
    }
}

fn are_apart(pair: &[ChangedLines]) -> bool {
    match pair {
        [before, after] => after.old.start - before.old.end > 2 * CONTEXT,
        _ => true,
    }
}

/// The text of a diff as it grows.
struct Diff<'o, 't> {
    old: &'o OldText<'t>,
    out: String,
    /// How many lines all hunks so far have removed and added.
    removed: usize,
    added: usize,
}

impl Diff<'_, '_> {
    fn hunk(&mut self, changes: &[ChangedLines]) {
        let (Some(first), Some(last)) = (changes.first(), changes.last()) else { return };
        let from = first.old.start.saturating_sub(CONTEXT);
        let to = (last.old.end + CONTEXT).min(self.old.lines.len());
        let removed: usize = changes.iter().map(|change| change.old.len()).sum();
        let added: usize = changes.iter().map(|change| change.new.len()).sum();

        let (old_count, new_count) = (to - from, to - from - removed + added);
        let old_line = from + usize::from(old_count > 0);
        let new_line = from + self.added - self.removed + usize::from(new_count > 0);
        self.line('@', &format!("@ -{old_line},{old_count} +{new_line},{new_count} @@"));
        self.removed += removed;
        self.added += added;

        let mut at = from;
        for change in changes {
            self.old_lines(' ', at..change.old.start);
            self.old_lines('-', change.old.clone());
            change.new.iter().for_each(|line| self.line('+', line));
            at = change.old.end;
        }
        self.old_lines(' ', at..to);
    }

    fn old_lines(&mut self, sign: char, lines: Range<usize>) {
        let old = self.old;
        old.get(lines).iter().for_each(|line| self.line(sign, line));
    }

    fn line(&mut self, sign: char, line: &str) {
        self.out.push(sign);
        // What a terminal would act on is not shown.
        let shown = line.trim_end_matches(['\r', '\n']).chars();
        self.out.extend(shown.map(|c| if misleads(c) && c != '\t' { ' ' } else { c }));
        self.out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_the_lines_that_change_with_two_around_them() {
        let old: String = (1..=20).map(|n| format!("line {n}\r\n")).collect();
        let at = |text: &str| old.find(text).unwrap();
        let edits = [
            Edit { span: at("line 4")..at("line 4") + 6, text: "four".into() },
            Edit { span: at("line 9")..at("line 9"), text: "new\r\n".into() },
            Edit { span: at("line 18")..at("line 18") + 4, text: "row".into() },
            Edit { span: old.len()..old.len(), text: "end\u{9b}31m".into() },
        ];
        assert_eq!(
            diff(&old, &edits),
            "@@ -2,9 +2,10 @@\n line 2\n line 3\n-line 4\n+four\n line 5\n line 6\n line 7\n line 8\n\
             +new\n line 9\n line 10\n@@ -16,5 +17,6 @@\n line 16\n line 17\n-line 18\n+row 18\n line 19\n \
             line 20\n+end 31m\n"
        );
        assert_eq!(diff(&old, &[]), "");
    }

    #[test]
    fn a_diff_of_a_file_that_is_not_there_is_all_of_the_new_one() {
        let edits = [Edit { span: 0..0, text: "{\n}\n".into() }];
        assert_eq!(diff("", &edits), "@@ -0,0 +1,2 @@\n+{\n+}\n");
    }
}
