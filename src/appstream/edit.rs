//! Edits of a JSON text as splices: what is not edited keeps its bytes, and what is added is laid out like the document.
//! Knows no key of AppStream's.

use crate::json::{Document, Member, Node, Value, quoted};
use std::ops::Range;

/// `text` in the place of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The bytes that are replaced.
    pub span: Range<usize>,
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
pub enum NewValue {
    /// JSON text as it is.
    Json(String),
    /// An object, laid out like the rest of the document.
    Object(Vec<(&'static str, NewValue)>),
    /// An array of one item.
    Array(Box<NewValue>),
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

    /// The layout inside `container`: what is on one line stays there.
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
    pub fn add_members(&self, object: &Node, members: Vec<(&'static str, NewValue)>) -> Edit {
        let old: &[Member] = match &object.value {
            Value::Object(old) => old,
            // `null` counts as an object that is not there.
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

    /// `item` behind the last item of `array`.
    pub fn add_item(&self, array: &Node, item: NewValue) -> Edit {
        let items: &[Node] = match &array.value {
            Value::Array(items) => items,
            _ => &[],
        };

        // `null` makes room for an item.
        let vacant = items.iter().find(|item| item.value == Value::Null);
        let last = vacant.or(items.last()).map(|item| item.span.clone());
        let layout = self.inside(array);
        let text = layout.render(&item, &self.indent_inside(array, last.as_ref()));

        match vacant {
            Some(vacant) => Edit { span: vacant.span.clone(), text },
            None => layout.append(array, '[', last, &[text]),
        }
    }

    /// The indentation of what is put into `container`, whose last item is at `last`.
    fn indent_inside(&self, container: &Node, last: Option<&Range<usize>>) -> String {
        match last {
            Some(last) => self.indent(last.start).to_owned(),
            None => format!("{}{}", self.indent(container.span.start), self.step),
        }
    }

    /// `items` behind the last item of `container`, which is at `last`.
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
        // The first item may follow its bracket at once, as in `{"a": 1}`. Then it does not show the blank.
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

    fn member(&self, (key, value): &(&str, NewValue), indent: &str) -> String {
        format!("{}{}{}", quoted(key), self.colon, self.render(value, indent))
    }

    fn render(&self, new: &NewValue, indent: &str) -> String {
        let inner = format!("{indent}{}", self.step);
        match new {
            NewValue::Json(text) => text.clone(),
            NewValue::Array(item) => self.wrap('[', &[self.render(item, &inner)], indent),
            NewValue::Object(members) => {
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
