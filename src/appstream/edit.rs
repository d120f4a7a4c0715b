//! Edits of a JSON text as splices: what is not edited keeps its bytes, and what
//! is added looks like what is there. Also what an edit changes, line by line.

use crate::json::{Document, Member, Node, Value, quoted};
use crate::text::misleads;
use std::ops::Range;

/// `text` in the place of the bytes of `span`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What goes.
    pub span: Range<usize>,
    /// What comes.
    pub text: String,
}

/// `text` with all of `edits`, which are sorted and do not overlap.
pub fn apply(text: &str, edits: &[Edit]) -> String {
    let mut out = String::with_capacity(text.len() + 1024);
    let mut at = 0;
    for edit in edits {
        out.push_str(text.get(at..edit.span.start).unwrap_or(""));
        out.push_str(&edit.text);
        at = edit.span.end;
    }
    out + text.get(at..).unwrap_or("")
}

/// A value that is to be added.
pub enum New {
    /// JSON text as it is.
    Text(String),
    /// An object, laid out like the rest of the document.
    Object(Vec<(String, New)>),
    /// An array of one item.
    List(Box<New>),
}

/// How a document is laid out, for what is added to it.
#[derive(Clone, Copy)]
pub struct Layout<'d> {
    document: &'d Document<'d>,
    /// Line break; none if the whole document is one line.
    newline: Option<&'static str>,
    /// One step of indentation.
    step: &'d str,
    /// What stands between key and value.
    colon: &'d str,
    /// What stands inside the braces of an object on one line.
    pad: &'d str,
}

impl<'d> Layout<'d> {
    /// Of `document`.
    pub fn of(document: &'d Document<'d>) -> Self {
        let inside = document.slice(document.root.span.clone());
        let newline = inside.find('\n').map(|at| match inside.get(..at) {
            Some(before) if before.ends_with('\r') => "\r\n",
            _ => "\n",
        });
        let mut layout = Self { document, newline, step: "  ", colon: ": ", pad: " " };
        if let Value::Object(members) = &document.root.value
            && let [first, ..] = &members[..]
        {
            let open = layout.blank_before(first.key_span.start);
            match open.rsplit_once('\n') {
                Some((_, indent)) => {
                    let outer = layout.indent(document.root.span.start);
                    layout.step = indent.strip_prefix(outer).unwrap_or(indent);
                }
                None => layout.pad = open,
            }
            layout.colon = layout.colon_of(first);
        }
        layout
    }

    /// The blanks that end at `place`.
    fn blank_before(&self, place: usize) -> &'d str {
        let before = self.document.slice(0..place);
        let kept = before.trim_end_matches([' ', '\t', '\r', '\n']).len();
        self.document.slice(kept..place)
    }

    /// The indentation of the line that `place` is in.
    fn indent(&self, place: usize) -> &'d str {
        let start = self.document.slice(0..place).rfind('\n').map_or(0, |at| at + 1);
        let line = self.document.slice(start..place);
        let blanks = line.len() - line.trim_start_matches([' ', '\t']).len();
        self.document.slice(start..start + blanks)
    }

    /// What stands between a member's key and its value.
    fn colon_of(&self, member: &Member) -> &'d str {
        let colon = self.document.slice(member.key_span.end..member.value.span.start);
        if colon.contains('\n') { ": " } else { colon }
    }

    /// The same for what is put into `container`: what is on one line stays there.
    fn inside(&self, container: &Node) -> Self {
        let span = container.span.clone();
        let one_line = if is_empty(&container.value) {
            let rest = self.document.slice(span.end..self.document.text.len());
            let rest = rest.lines().next().unwrap_or("");
            !rest.trim_start_matches(',').trim().is_empty()
        } else {
            !self.document.slice(span).contains('\n')
        };
        Self { newline: self.newline.filter(|_| !one_line), ..*self }
    }

    /// `members` behind the last one of `object`.
    pub fn add_members(&self, object: &Node, members: Vec<(String, New)>) -> Edit {
        let old: &[Member] = match &object.value {
            Value::Object(old) => old,
            // `null` is an object that is not there: what is put into it takes its place.
            _ => &[],
        };
        let last = old.last().map(|last| last.key_span.start..last.value.span.end);
        let indent = self.indent_inside(object, last.as_ref());
        let mut layout = self.inside(object);
        layout.colon = old.last().map_or(self.colon, |last| self.colon_of(last));
        let items: Vec<String> =
            members.iter().map(|member| layout.member(member, &indent)).collect();
        layout.append(object, '{', last, &items)
    }

    /// An object of `members` behind the last item of `array`, laid out like the object `like`.
    pub fn add_item(
        &self,
        array: &Node,
        like: Option<&Node>,
        members: Vec<(String, String)>,
    ) -> Edit {
        let items: &[Node] = match &array.value {
            Value::Array(items) => items,
            _ => &[],
        };
        // An item that is not there makes room for one that is.
        let vacant = items.iter().find(|item| item.value == Value::Null);
        let last = vacant.or(items.last()).map(|item| item.span.clone());
        let layout = self.inside(array);
        let item = match like.map(|node| (node, &node.value)) {
            Some((node, Value::Object(old))) if !old.is_empty() => self.copy(node, old, &members),
            _ => {
                let members = members.into_iter().map(|(key, value)| (key, New::Text(value)));
                let indent = self.indent_inside(array, last.as_ref());
                layout.render(&New::Object(members.collect()), &indent)
            }
        };
        match vacant {
            Some(vacant) => Edit { span: vacant.span.clone(), text: item },
            None => layout.append(array, '[', last, &[item]),
        }
    }

    /// An object of `members` with the blanks of `node`, whose members are `old`.
    fn copy(&self, node: &Node, old: &[Member], members: &[(String, String)]) -> String {
        let before = |member: &Member| self.blank_before(member.key_span.start);
        let open = old.first().map_or("", before);
        let between = match old.get(1) {
            Some(second) => before(second),
            None if open.is_empty() => " ",
            None => open,
        };
        let close = self.blank_before(node.span.end - 1);
        let colon = old.first().map_or(self.colon, |member| self.colon_of(member));
        let items: Vec<String> =
            members.iter().map(|(key, value)| format!("{}{colon}{value}", quoted(key))).collect();
        format!("{{{open}{}{close}}}", items.join(&format!(",{between}")))
    }

    /// The indentation of what is put into `container`, whose last item is at `last`.
    fn indent_inside(&self, container: &Node, last: Option<&Range<usize>>) -> String {
        match last {
            Some(last) => self.indent(last.start).to_owned(),
            None => format!("{}{}", self.indent(container.span.start), self.step),
        }
    }

    fn append(
        &self,
        container: &Node,
        open: char,
        last: Option<Range<usize>>,
        items: &[String],
    ) -> Edit {
        let span = container.span.clone();
        let Some(last) = last else {
            let text = self.wrap(open, items, self.indent(span.start));
            return Edit { span, text };
        };
        let mut blank = self.blank_before(last.start);
        // The first after a bracket that hugs it: `{"a": 1}`.
        if blank.is_empty() {
            blank = self.blank();
        }
        let text = items.iter().flat_map(|item| [",", blank, item]).collect();
        Edit { span: last.end..last.end, text }
    }

    /// What stands behind a comma within a line.
    fn blank(&self) -> &'static str {
        if self.colon.ends_with(' ') { " " } else { "" }
    }

    fn member(&self, (key, value): &(String, New), indent: &str) -> String {
        format!("{}{}{}", quoted(key), self.colon, self.render(value, indent))
    }

    fn render(&self, new: &New, indent: &str) -> String {
        let inner = format!("{indent}{}", self.step);
        match new {
            New::Text(text) => text.clone(),
            New::List(item) => self.wrap('[', &[self.render(item, &inner)], indent),
            New::Object(members) => {
                let items = members.iter().map(|member| self.member(member, &inner));
                self.wrap('{', &items.collect::<Vec<_>>(), indent)
            }
        }
    }

    /// `items` in brackets that stand in a line indented by `indent`.
    fn wrap(&self, open: char, items: &[String], indent: &str) -> String {
        let (pad, close) = if open == '{' { (self.pad, '}') } else { ("", ']') };
        match self.newline {
            Some(newline) => {
                let inner = format!("{newline}{indent}{}", self.step);
                let items = items.join(&format!(",{inner}"));
                format!("{open}{inner}{items}{newline}{indent}{close}")
            }
            None => format!("{open}{pad}{}{pad}{close}", items.join(&format!(",{}", self.blank()))),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Null => true,
        _ => false,
    }
}

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
