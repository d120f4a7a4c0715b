//! What edits change in a text, line by line, in the form of `diff -U2` without its head.

use super::edit::{Edit, apply};
use crate::text::misleads;
use std::ops::Range;

/// Lines of context around a change.
const CONTEXT: usize = 2;

/// What `edits` change in `old`, in the form of `diff -U2` without its head.
pub fn diff(old: &str, edits: &[Edit]) -> String {
    let lines: Vec<&str> = old.split_inclusive('\n').collect();
    let mut starts = vec![0];
    for line in &lines {
        starts.push(starts.last().unwrap_or(&0) + line.len());
    }
    let line_of = |place: usize| {
        // The last line that begins at or before the place; behind the end of the file: the last.
        let after = starts.partition_point(|start| *start <= place);
        after.saturating_sub(1).min(lines.len().saturating_sub(1))
    };
    // Edits in the same or in touching lines are one change.
    let mut changes: Vec<(Range<usize>, Vec<Edit>)> = Vec::new();
    for edit in edits {
        let (first, end) = (line_of(edit.span.start), line_of(edit.span.end) + 1);
        match changes.last_mut() {
            Some((lines, all)) if first <= lines.end => {
                lines.end = lines.end.max(end);
                all.push(edit.clone());
            }
            _ => changes.push((first..end.min(lines.len()), vec![edit.clone()])),
        }
    }
    // Each change as old and new lines, without what is the same at its ends.
    let changes: Vec<(Range<usize>, Vec<String>)> = changes
        .into_iter()
        .map(|(mut at, mut edits)| {
            let (start, end) =
                (starts.get(at.start).unwrap_or(&0), starts.get(at.end).unwrap_or(&0));
            for edit in &mut edits {
                edit.span = edit.span.start - start..edit.span.end - start;
            }
            let new = apply(old.get(*start..*end).unwrap_or(""), &edits);
            let mut new: Vec<String> = new.split_inclusive('\n').map(str::to_owned).collect();
            let same = |old: usize, new: Option<&String>| {
                lines.get(old).is_some_and(|old| new.is_some_and(|new| new == old))
            };
            while at.start < at.end && same(at.start, new.first()) {
                at.start += 1;
                new.remove(0);
            }
            while at.start < at.end && same(at.end - 1, new.last()) {
                at.end -= 1;
                new.pop();
            }
            (at, new)
        })
        .filter(|(at, new)| !at.is_empty() || !new.is_empty())
        .collect();
    let mut out = String::new();
    let mut put = |sign: char, line: &str| {
        out.push(sign);
        // Not what a terminal would act on.
        out.extend(line.trim_end_matches(['\r', '\n']).chars().map(|c| match c {
            c if misleads(c) && c != '\t' => ' ',
            c => c,
        }));
        out.push('\n');
    };
    let (mut gone_before, mut come_before) = (0, 0);
    let mut rest = changes.as_slice();
    while !rest.is_empty() {
        // As many changes as have no more than their contexts between them are one hunk.
        let apart = |pair: &[(Range<usize>, _)]| match pair {
            [(before, _), (after, _)] => after.start - before.end > 2 * CONTEXT,
            _ => true,
        };
        let count = rest.windows(2).position(apart).unwrap_or(rest.len() - 1) + 1;
        let (hunk, others) = rest.split_at(count);
        rest = others;
        let (Some((first, _)), Some((last, _))) = (hunk.first(), hunk.last()) else { break };
        let from = first.start.saturating_sub(CONTEXT);
        let to = (last.end + CONTEXT).min(lines.len());
        let gone: usize = hunk.iter().map(|(at, _)| at.len()).sum();
        let come: usize = hunk.iter().map(|(_, new)| new.len()).sum();
        let (old_count, new_count) = (to - from, to - from - gone + come);
        let old_line = from + usize::from(old_count > 0);
        let new_line = from + come_before - gone_before + usize::from(new_count > 0);
        put('@', &format!("@ -{old_line},{old_count} +{new_line},{new_count} @@"));
        gone_before += gone;
        come_before += come;
        let mut at = from;
        for (change, new) in hunk {
            (at..change.start).filter_map(|at| lines.get(at)).for_each(|line| put(' ', line));
            change.clone().filter_map(|at| lines.get(at)).for_each(|line| put('-', line));
            new.iter().for_each(|line| put('+', line));
            at = change.end;
        }
        (at..to).filter_map(|at| lines.get(at)).for_each(|line| put(' ', line));
    }
    out
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
