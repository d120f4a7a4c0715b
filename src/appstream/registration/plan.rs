//! Decides how a config.json becomes what is wanted: which values change, which are added, and what is worth a note.
//! Edits go through [`Layout`], sentences through [`Note`].

use super::locate::{EntryNode, EventNode, Locator, TextNode};
use super::words::{command_line, on_one_line};
use super::{
    Before, Call, Change, Event, FilenameSlip, ForeignProgram, ForeignPrograms, LONGEST_WAIT,
    Limit, Note, Registration, RegistrationError, Result,
};
use crate::appstream::edit::{Edit, Layout, NewValue, apply};
use crate::json::{Node, Value, quoted};
use std::time::Duration;

/// How much longer than a run's limit waitingTime is, if it is set here.
const COMFORT: Duration = Duration::from_secs(5);
/// As many executables as an event may have: one for each context.
const MOST_EXECUTABLES: usize = 2;

/// A key and its value, to be added to an object.
type NewMember = (&'static str, NewValue);

/// Works out how the document becomes what is `wanted`.
///
/// # Errors
/// Why it cannot.
pub fn plan(locator: &Locator<'_>, wanted: &Registration) -> Result<Change> {
    let document = locator.document;
    let mut plan = Plan {
        locator,
        layout: Layout::of(document),
        wanted,
        edits: Vec::new(),
        notes: Vec::new(),
        cut_off: false,
        foreign: ForeignPrograms::default(),
    };

    let events: Vec<EventNode<'_>> =
        Event::ALL.into_iter().map(|event| locator.event(event)).collect::<Result<_, _>>()?;

    let mut missing = Vec::new();
    for event in &events {
        plan.warn_of_user_context(event);
        match (wanted.call(event.event), event.node) {
            (Some(call), Some(node)) => plan.register(event, node, call)?,
            (Some(call), None) => missing.push(plan.whole_event(event, call)?),
            (None, _) => plan.take_out(event)?,
        }
    }
    plan.add_members(&document.root, missing);

    let Plan { edits, notes, cut_off, foreign, .. } = plan;
    if foreign.start.is_some() || foreign.termination.is_some() {
        let foreign = ForeignPrograms { own: wanted.own.clone(), cut_off, ..foreign };
        return Err(RegistrationError::Foreign(Box::new(foreign)));
    }
    Ok(Change { text: apply(document.text, &edits), edits, notes, cut_off })
}

/// What is to be done and said so far.
struct Plan<'p, 'd> {
    locator: &'p Locator<'d>,
    layout: Layout<'d>,
    wanted: &'p Registration,
    edits: Vec<Edit>,
    notes: Vec<Note>,
    cut_off: bool,
    foreign: ForeignPrograms,
}

impl<'d> Plan<'_, 'd> {
    /// Keeps the edits in the order of their places.
    fn edit(&mut self, edit: Edit) {
        let place = self.edits.partition_point(|other| other.span.start <= edit.span.start);
        self.edits.insert(place, edit);
    }

    fn set(&mut self, node: &Node, text: String) {
        self.edit(Edit { span: node.span.clone(), text });
    }

    fn add_members(&mut self, object: &Node, members: Vec<NewMember>) {
        if !members.is_empty() {
            self.edit(self.layout.add_members(object, members));
        }
    }

    /// Warns of a user-context entry that names this program, since that cannot work. Such an entry is never changed.
    fn warn_of_user_context(&mut self, event: &EventNode<'d>) {
        let mut user_entries = event.entries.iter().filter(|entry| entry.is("user"));
        let names_us = user_entries.any(|entry| {
            let filename = self.locator.text_of(entry, "filename");
            filename.is_ok_and(|filename| self.wanted.is_ours(filename.text))
        });
        if names_us {
            self.notes.push(Note::UserContext { event: event.event });
        }
    }

    /// Has an event that is there, at `node`, run `call`.
    fn register(&mut self, event: &EventNode<'d>, node: &'d Node, call: &Call) -> Result<()> {
        let mut missing = Vec::new();
        let system: Vec<&EntryNode<'d>> = event.entries.iter().filter(|e| e.is("system")).collect();

        match (system.as_slice(), event.executables) {
            ([entry], _) => self.settle(event.event, entry, call)?,
            ([_, second, ..], _) => {
                let what = format!(
                    "a second system-context executable of {}: AppStream takes one for each \
                     context, so take one out",
                    event.event.name()
                );
                return Err(self.locator.malformed(second.node.span.start, &what));
            }
            ([], Some(array)) if event.entries.len() >= MOST_EXECUTABLES => {
                let what = format!(
                    "{} executables of {} already, none of them in the system context: \
                     AppStream takes one for each context, so take one out",
                    event.entries.len(),
                    event.event.name()
                );
                return Err(self.locator.malformed(array.span.start, &what));
            }
            ([], Some(array)) => {
                self.edit(self.layout.add_item(array, new_entry(call)));
                self.registered(event.event, call, None);
            }
            ([], None) => {
                missing.push(executables(call));
                self.registered(event.event, call, None);
            }
        }

        missing.extend(self.fit_waiting_time(event, call.limit)?);
        self.add_members(node, missing);
        Ok(())
    }

    fn registered(&mut self, event: Event, call: &Call, instead: Option<String>) {
        let program = command_line(&call.filename, &call.arguments);
        let file = self.locator.file.to_owned();
        self.notes.push(Note::Registered { event, program, file, instead });
    }

    /// Makes the one system-context entry ours.
    fn settle(&mut self, event: Event, entry: &EntryNode<'d>, call: &Call) -> Result<()> {
        let filename = self.locator.text_of(entry, "filename")?;
        let arguments = self.locator.text_of(entry, "arguments")?;
        let logged = self.locator.value_of(entry, "s3LogEnabled")?;
        let was_empty = filename.text.is_empty();
        let is_foreign = !was_empty && !self.wanted.is_ours(filename.text);

        if is_foreign && !self.wanted.replace {
            let place = filename.node.unwrap_or(entry.node).span.start;
            let program = self.foreign_program(event, place, filename.text, arguments.text);
            match event {
                Event::Start => self.foreign.start = Some(program),
                Event::Termination => self.foreign.termination = Some(program),
            }
            return Ok(());
        }

        let mut missing = self.set_texts(event, [&filename, &arguments], call);
        missing.extend(self.set_logged(event, logged, !was_empty && !is_foreign));
        self.add_members(entry.node, missing);

        if (filename.text, arguments.text) != (&call.filename, &call.arguments) {
            let old = match is_foreign {
                true => on_one_line(self.locator.slice(entry.node)),
                false => command_line(filename.text, arguments.text),
            };
            self.registered(event, call, (!was_empty).then_some(old));
        }
        Ok(())
    }

    /// What is to be said about a program that stands where ours should be.
    fn foreign_program(
        &self,
        event: Event,
        place: usize,
        filename: &str,
        arguments: &str,
    ) -> ForeignProgram {
        let slip = FilenameSlip::find(filename, |name| self.wanted.is_ours(name));
        let why = match slip {
            Some(slip) => format!(": {slip}"),
            None => ", which is not efs-agent".to_owned(),
        };

        let what = format!(
            "the system-context {} executable is {}{why}",
            event.name(),
            command_line(filename, arguments)
        );

        let what = self.locator.error_at(place, &what).to_string();
        ForeignProgram { filename: filename.to_owned(), what, slip }
    }

    /// Sets the filename and the arguments of an entry. Returns the keys that it does not have yet.
    fn set_texts(
        &mut self,
        event: Event,
        [filename, arguments]: [&TextNode<'d>; 2],
        call: &Call,
    ) -> Vec<NewMember> {
        let mut missing = Vec::new();
        let differs = (filename.text, arguments.text) != (&call.filename, &call.arguments);
        let texts =
            [("filename", filename, &call.filename), ("arguments", arguments, &call.arguments)];

        for (key, old, new) in texts {
            let value = quoted(new);
            let before = match old.node {
                Some(node) if old.text != new || node.value == Value::Null => {
                    self.set(node, value.clone());
                    Before::Null
                }
                Some(_) => continue,
                None => {
                    missing.push((key, NewValue::Json(value.clone())));
                    Before::Nothing
                }
            };

            // If the program changes, [`Note::Registered`] says so.
            if !differs {
                self.notes.push(Note::KeySet { event, key, value, before });
            }
        }
        missing
    }

    /// Has the output of an entry logged, unless somebody has decided against it. Returns the key, if the entry does
    /// not have it yet. If the entry was not ours, the note that it is now is enough.
    fn set_logged(
        &mut self,
        event: Event,
        logged: Option<&'d Node>,
        was_ours: bool,
    ) -> Option<NewMember> {
        let key = "s3LogEnabled";
        let value = String::from("true");

        let before = match logged.map(|node| (node, &node.value)) {
            None => Before::Nothing,
            Some((node, Value::Null)) => {
                self.set(node, value.clone());
                Before::Null
            }
            Some((_, Value::Boolean(true))) => return None,
            Some((node, _)) => {
                let value = self.locator.slice(node).to_owned();
                self.notes.push(Note::NotLogged { event, value });
                return None;
            }
        };

        if was_ours {
            self.notes.push(Note::KeySet { event, key, value: value.clone(), before });
        }
        (before == Before::Nothing).then_some((key, NewValue::Json(value)))
    }

    /// An event that the file does not have.
    fn whole_event(&mut self, event: &EventNode<'d>, call: &Call) -> Result<NewMember> {
        self.registered(event.event, call, None);
        let waiting_time = self.fit_waiting_time(event, call.limit)?;
        let members = [executables(call)].into_iter().chain(waiting_time).collect();
        Ok((event.event.name(), NewValue::Object(members)))
    }

    /// Sees to it that AppStream waits long enough. Returns the key, if the event does not have it yet.
    fn fit_waiting_time(
        &mut self,
        event: &EventNode<'d>,
        limit: Limit,
    ) -> Result<Option<NewMember>> {
        let (node, event) = (event.waiting_time, event.event);
        if limit.least_wait() > Duration::from_secs(LONGEST_WAIT) {
            return Err(RegistrationError::NeverFits { event, limit });
        }

        let good = limit.span.saturating_add(COMFORT);
        let seconds = (good.as_secs() + u64::from(good.subsec_nanos() > 0)).min(LONGEST_WAIT);

        let waiting = match node.map(|node| (node, &node.value)) {
            None => {
                self.notes.push(Note::WaitingTimeSet { event, seconds, limit });
                return Ok(Some(("waitingTime", NewValue::Json(seconds.to_string()))));
            }
            Some((node, Value::Null)) => {
                self.notes.push(Note::WaitingTimeSet { event, seconds, limit });
                self.set(node, seconds.to_string());
                return Ok(None);
            }
            Some((node, Value::Number)) => node,
            Some((node, _)) => {
                return Err(self.locator.wrong_kind("waitingTime", node, "a number of seconds"));
            }
        };

        let value = self.locator.slice(waiting).to_owned();
        let wait = in_seconds(&value);
        self.cut_off |= event == Event::Start && wait <= limit.span;
        if wait < limit.least_wait() {
            self.set(waiting, seconds.to_string());
            self.notes.push(Note::WaitingTimeRaised { event, from: value, to: seconds, limit });
        } else if wait > Duration::from_secs(LONGEST_WAIT) {
            self.notes.push(Note::WaitingTimeTooLong { event, value });
        }
        Ok(None)
    }

    /// Empties the entries of the event that are ours, as AppStream's own file has them empty.
    fn take_out(&mut self, event: &EventNode<'d>) -> Result<()> {
        for entry in event.entries.iter().filter(|entry| !entry.is("user")) {
            let filename = self.locator.text_of(entry, "filename")?;
            let Some(node) = filename.node.filter(|_| self.wanted.is_ours(filename.text)) else {
                continue;
            };
            let arguments = self.locator.text_of(entry, "arguments")?;

            self.set(node, quoted(""));
            if let Some(node) = arguments.node.filter(|_| !arguments.text.is_empty()) {
                self.set(node, quoted(""));
            }

            let program = command_line(filename.text, arguments.text);
            let file = self.locator.file.to_owned();
            self.notes.push(Note::Unregistered { event: event.event, program, file });
        }
        Ok(())
    }
}

/// `"executables": [ … ]` with our entry in it.
fn executables(call: &Call) -> NewMember {
    ("executables", NewValue::Array(Box::new(new_entry(call))))
}

fn new_entry(call: &Call) -> NewValue {
    NewValue::Object(vec![
        ("context", NewValue::Json(quoted("system"))),
        ("filename", NewValue::Json(quoted(&call.filename))),
        ("arguments", NewValue::Json(quoted(&call.arguments))),
        ("s3LogEnabled", NewValue::Json("true".to_owned())),
    ])
}

/// A JSON number of seconds. Less than none is none, and too many are as many as there can be.
fn in_seconds(number: &str) -> Duration {
    match number.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 => {
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
        }
        _ => Duration::ZERO,
    }
}
