//! What it means to be registered in AppStream's config.json. Pure: the text of
//! the file and what is wanted go in; edits of that text and what to say about
//! them, or a refusal, come out. All that is not ours keeps its bytes.
//!
//! Keys are found in any letter case, as AppStream's own pages mix them. What is `null` counts as absent: some
//! programs write that for an empty list or text.

use super::edit::{Edit, Layout, New, apply};
use crate::config::{ConfigError, Level};
use crate::json::{Document, Member, Node, SyntaxError, Value, quoted};
use std::path::Path;
use std::time::Duration;

/// Where AppStream reads it.
pub const CONFIG_JSON: &str = "/opt/appstream/SessionScripts/config.json";
/// The longest file name and the longest arguments that AppStream takes, in characters.
pub const LONGEST: usize = 1000;
/// The shim's name, beside config.json.
pub const SHIM: &str = "efs-agent.sh";
/// The program's name, wherever it is installed.
const PROGRAM: &str = "efs-agent";

/// The most that AppStream waits for an event's executables, in seconds.
const LONGEST_WAIT: u64 = 60;
/// A run must end this long before AppStream stops waiting for it: its last lines must get out.
const SPARE: Duration = Duration::from_secs(2);
/// What we leave where we set waitingTime ourselves.
const COMFORT: Duration = Duration::from_secs(5);
/// As many executables as an event may have: one for each context.
const MOST_EXECUTABLES: usize = 2;

const EVENT_KEYS: &[&str] = &["executables", "waitingTime"];
const ENTRY_KEYS: &[&str] = &["context", "filename", "arguments", "s3LogEnabled"];

/// A config.json in which nothing is registered, as AppStream's documentation shows it.
pub fn empty() -> String {
    let event = r#"{
    "executables": [
      {
        "context": "system",
        "filename": "",
        "arguments": "",
        "s3LogEnabled": true
      },
      {
        "context": "user",
        "filename": "",
        "arguments": "",
        "s3LogEnabled": true
      }
    ],
    "waitingTime": 30
  }"#;
    let [start, termination] = Event::NAMES;
    format!("{{\n  \"{start}\": {event},\n  \"{termination}\": {event}\n}}\n")
}

/// The events of a session at which AppStream runs executables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Start,
    Termination,
}

impl Event {
    const ALL: [Self; 2] = [Self::Start, Self::Termination];
    const NAMES: [&str; 2] = ["SessionStart", "SessionTermination"];

    fn name(self) -> &'static str {
        let [start, termination] = Self::NAMES;
        if self == Self::Start { start } else { termination }
    }
}

/// A program that AppStream is to run as root at an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its path.
    pub filename: String,
    /// Its arguments, blanks between them; may be empty.
    pub arguments: String,
    /// How long it may take.
    pub limit: Duration,
    /// What that is called in our own config.
    pub limit_key: &'static str,
}

/// What config.json is to hold of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The running executable's path: entries that name it are ours, whatever its name.
    pub own: Option<String>,
    /// Run at SessionStart; `None` takes what is ours out.
    pub start: Option<Call>,
    /// Run at SessionTermination; `None` takes what is ours out.
    pub termination: Option<Call>,
    /// Whether a system-context entry of somebody else's makes way.
    pub replace: bool,
}

/// How a config.json becomes what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The new text.
    pub text: String,
    /// How it differs; empty if it does not.
    pub edits: Vec<Edit>,
    /// What to say, once it is done; warnings too where nothing changes.
    pub notes: Vec<(Level, String)>,
    /// AppStream would kill a session start before its deadline, as the file is.
    pub cut_off: bool,
    /// What the file runs at SessionStart is not what is wanted.
    pub start_differs: bool,
}

/// Somebody else's programs where ours should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Foreign {
    /// At SessionStart.
    pub start: Option<Theirs>,
    /// At SessionTermination.
    pub termination: Option<Theirs>,
    /// The program that is to be there; none where its path is not known.
    own: Option<String>,
    /// AppStream would kill what runs at SessionStart before the deadline.
    pub cut_off: bool,
}

/// A program of somebody else's that AppStream runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theirs {
    /// Its path, as the file has it.
    pub filename: String,
    /// Where that stands, and what it is.
    pub what: String,
    /// What keeps it from being a path of ours.
    pub slip: Option<&'static str>,
}

impl Foreign {
    /// What is registered, without a way out.
    pub fn told(&self) -> String {
        let texts = [&self.start, &self.termination].into_iter().flatten();
        texts.map(|theirs| theirs.what.as_str()).collect::<Vec<_>>().join("; ")
    }

    fn refusal(&self) -> String {
        let own = self.own.as_deref().unwrap_or(PROGRAM);
        let start = match &self.start {
            Some(theirs) if theirs.slip.is_none() => format!(", or have that script start {own}"),
            _ => String::new(),
        };
        let termination = match self.termination {
            Some(_) => ", --no-termination leaves SessionTermination alone",
            None => "",
        };
        format!(
            "{}; nothing was changed (--replace puts efs-agent in its place{start}{termination})",
            self.told()
        )
    }
}

/// Why a config.json is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not what AppStream's documentation describes, or no JSON at all.
    #[error("{0}; nothing was changed")]
    Malformed(ConfigError),
    /// Somebody else's program is registered.
    #[error("{}", .0.refusal())]
    Foreign(Box<Foreign>),
    /// A limit of ours that no waitingTime can hold.
    #[error("{0}")]
    NeverFits(String),
    /// An edit went wrong: a fault of ours.
    #[error("efs-agent has a fault: its edit of {0}; nothing was changed")]
    Fault(String),
}

/// The program of ours that `text`, the contents of `file`, has for SessionStart, and its arguments.
pub fn ours_at_start(file: &Path, text: &str, wanted: &Wanted) -> Option<(String, String)> {
    let document = Document::parse(text).ok()?;
    let reader = Reader { file, document: &document };
    let event = reader.event(Event::Start).ok()?;
    let entry = event.entries.iter().find(|entry| entry.is("system"))?;
    let (filename, arguments) = (reader.filename(entry).ok()?.1, reader.arguments(entry).ok()?.1);
    is_ours(filename, wanted).then(|| (filename.to_owned(), arguments.to_owned()))
}

fn is_ours(filename: &str, wanted: &Wanted) -> bool {
    let name = filename.rsplit('/').next().unwrap_or("");
    name == PROGRAM || name == SHIM || wanted.own.as_deref() == Some(filename)
}

/// The contents of `file` as text.
///
/// # Errors
/// The place at which it is not UTF-8.
pub fn text<'b>(file: &Path, bytes: &'b [u8]) -> Result<&'b str, Refusal> {
    std::str::from_utf8(bytes).map_err(|e| {
        let good = bytes.get(..e.valid_up_to()).unwrap_or_default();
        let good = std::str::from_utf8(good).unwrap_or("");
        let what = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16: save the file as UTF-8",
            _ => "not UTF-8: save the file as UTF-8",
        };
        Refusal::Malformed(ConfigError::at(file, good, good.len(), what))
    })
}

/// Works out how `text`, the contents of `file`, becomes what is `wanted`.
///
/// # Errors
/// Why it is not done.
pub fn change(file: &Path, text: &str, wanted: &Wanted) -> Result<Change, Refusal> {
    let change = plan(file, text, wanted)?;
    // Whatever our edits are good for, what comes out must be JSON, and just what was wanted.
    match plan(file, &change.text, wanted) {
        Ok(again) if again.edits.is_empty() => Ok(change),
        Ok(_) => Err(Refusal::Fault(format!("{} would not be all of it", file.display()))),
        Err(e) => Err(Refusal::Fault(format!("{} would not be read: {e}", file.display()))),
    }
}

fn plan(file: &Path, text: &str, wanted: &Wanted) -> Result<Change, Refusal> {
    let document = Document::parse(text).map_err(|SyntaxError { place, what }| {
        Refusal::Malformed(ConfigError::at(file, text, place, &what))
    })?;
    let reader = Reader { file, document: &document };
    let mut events = Vec::new();
    for event in Event::ALL {
        events.push(reader.event(event)?);
    }
    let mut plan = Plan {
        reader,
        layout: Layout::of(&document),
        wanted,
        events: &events,
        entries: events.iter().flat_map(|event| &event.entries).map(|entry| entry.node).collect(),
        edits: Vec::new(),
        notes: Vec::new(),
        cut_off: false,
        start_differs: false,
        foreign: Foreign::default(),
    };
    let mut missing = Vec::new();
    for event in &events {
        plan.warn_of_user(event);
        let call = match event.event {
            Event::Start => &wanted.start,
            Event::Termination => &wanted.termination,
        };
        match (call, event.node) {
            (Some(call), Some(node)) => plan.register(event, node, call)?,
            (Some(call), None) => missing.push(plan.whole_event(event.event, call)?),
            (None, _) => plan.take_out(event)?,
        }
    }
    if !missing.is_empty() {
        plan.edit(plan.layout.add_members(&document.root, missing));
    }
    let Plan { edits, notes, cut_off, start_differs, foreign, .. } = plan;
    if foreign.start.is_some() || foreign.termination.is_some() {
        return Err(Refusal::Foreign(Box::new(Foreign {
            own: wanted.own.clone(),
            cut_off,
            ..foreign
        })));
    }
    Ok(Change { text: apply(text, &edits), edits, notes, cut_off, start_differs })
}

/// Finds its way in config.json.
#[derive(Clone, Copy)]
struct Reader<'d> {
    file: &'d Path,
    document: &'d Document<'d>,
}

/// An event as it stands in the file.
struct EventAt<'d> {
    event: Event,
    /// The object; none if the file does not have the event.
    node: Option<&'d Node>,
    executables: Option<&'d Node>,
    entries: Vec<Entry<'d>>,
    waiting: Option<&'d Node>,
}

impl EventAt<'_> {
    fn absent(event: Event) -> Self {
        Self { event, node: None, executables: None, entries: Vec::new(), waiting: None }
    }
}

/// One of an event's executables.
struct Entry<'d> {
    node: &'d Node,
    /// In lower case.
    context: Option<String>,
}

impl Entry<'_> {
    fn is(&self, context: &str) -> bool {
        self.context.as_deref() == Some(context)
    }
}

impl<'d> Reader<'d> {
    fn malformed(&self, place: usize, what: &str) -> Refusal {
        Refusal::Malformed(ConfigError::at(self.file, self.document.text, place, what))
    }

    fn wrong(&self, key: &str, node: &Node, expected: &str) -> Refusal {
        let what = format!("{key} must be {expected}, not {}", node.value.kind());
        self.malformed(node.span.start, &what)
    }

    /// The members of `node`, which is called `name`.
    fn object(&self, name: &str, node: &'d Node) -> Result<&'d [Member], Refusal> {
        match &node.value {
            Value::Object(members) => Ok(members),
            Value::Null => Ok(&[]),
            _ => Err(self.wrong(name, node, "an object")),
        }
    }

    fn string(&self, key: &str, node: Option<&'d Node>) -> Result<Option<&'d str>, Refusal> {
        match node.map(|node| (node, &node.value)) {
            None | Some((_, Value::Null)) => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text)),
            Some((node, _)) => Err(self.wrong(key, node, "a string")),
        }
    }

    /// The value at `key`, in whatever case; which of two counts, nobody knows.
    fn value(&self, members: &'d [Member], key: &str) -> Result<Option<&'d Node>, Refusal> {
        let mut found = members.iter().filter(|member| member.key.eq_ignore_ascii_case(key));
        let first = found.next();
        if let (Some(first), Some(second)) = (first, found.next()) {
            let text = self.document.text;
            let place = ConfigError::at(self.file, text, first.key_span.start, "");
            let what = format!(
                "{} is the same key as {} in line {}, column {}: take one of them out",
                quoted(&second.key),
                quoted(&first.key),
                place.line,
                place.column
            );
            return Err(self.malformed(second.key_span.start, &what));
        }
        Ok(first.map(|member| &member.value))
    }

    fn event(&self, event: Event) -> Result<EventAt<'d>, Refusal> {
        let top = self.object("the outermost value", &self.document.root)?;
        let mut read = EventAt::absent(event);
        let Some(node) = self.value(top, event.name())? else {
            return Ok(read);
        };
        let members = self.object(event.name(), node)?;
        read.node = Some(node);
        read.waiting = self.value(members, "waitingTime")?;
        read.executables = self.value(members, "executables")?;
        let items = match read.executables.map(|node| (node, &node.value)) {
            None | Some((_, Value::Null)) => return Ok(read),
            Some((_, Value::Array(items))) => items,
            Some((node, _)) => return Err(self.wrong("executables", node, "an array")),
        };
        for node in items.iter().filter(|node| node.value != Value::Null) {
            let members = self.object("each of the executables", node)?;
            let context = self.string("context", self.value(members, "context")?)?;
            let context = context.map(str::to_ascii_lowercase);
            read.entries.push(Entry { node, context });
        }
        Ok(read)
    }

    fn entry_value(&self, entry: &Entry<'d>, key: &str) -> Result<Option<&'d Node>, Refusal> {
        self.value(self.object("each of the executables", entry.node)?, key)
    }

    /// The entry's filename and its text; "" where it has none.
    fn filename(&self, entry: &Entry<'d>) -> Result<(Option<&'d Node>, &'d str), Refusal> {
        let node = self.entry_value(entry, "filename")?;
        Ok((node, self.string("filename", node)?.unwrap_or("")))
    }

    fn arguments(&self, entry: &Entry<'d>) -> Result<(Option<&'d Node>, &'d str), Refusal> {
        let node = self.entry_value(entry, "arguments")?;
        Ok((node, self.string("arguments", node)?.unwrap_or("")))
    }
}

/// What is to be done and said so far.
struct Plan<'p, 'd> {
    reader: Reader<'d>,
    layout: Layout<'d>,
    wanted: &'p Wanted,
    events: &'p [EventAt<'d>],
    /// The executables of all events.
    entries: Vec<&'d Node>,
    edits: Vec<Edit>,
    notes: Vec<(Level, String)>,
    cut_off: bool,
    start_differs: bool,
    /// Who else is registered where we should be.
    foreign: Foreign,
}

impl<'d> Plan<'_, 'd> {
    fn say(&mut self, level: Level, text: String) {
        self.notes.push((level, text));
    }

    /// Keeps the edits in the order of their places.
    fn edit(&mut self, edit: Edit) {
        let place = self.edits.partition_point(|other| other.span.start <= edit.span.start);
        self.edits.insert(place, edit);
    }

    fn set(&mut self, node: &Node, text: String) {
        self.edit(Edit { span: node.span.clone(), text });
    }

    fn is_ours(&self, filename: &str) -> bool {
        is_ours(filename, self.wanted)
    }

    /// What keeps a filename that is meant to be ours from being a path of ours.
    fn slip_in(&self, filename: &str) -> Option<&'static str> {
        let bare = filename.trim();
        if bare != filename && self.is_ours(bare) {
            return Some(match filename.starts_with(bare) {
                true => "its filename has a blank at its end",
                false => "its filename has a blank at its beginning",
            });
        }
        let program = bare.split_whitespace().next()?;
        (program != bare && self.is_ours(program)).then_some("arguments belong into `arguments`")
    }

    /// `key` of an entry as the file spells it, or would.
    fn entry_key(&self, key: &str) -> String {
        spell(key, ENTRY_KEYS, &self.entries)
    }

    /// `key` of an event.
    fn event_key(&self, key: &str) -> String {
        let nodes: Vec<&Node> = self.events.iter().filter_map(|event| event.node).collect();
        spell(key, EVENT_KEYS, &nodes)
    }

    /// The members of a new entry.
    fn members(&self, call: &Call) -> Vec<(String, String)> {
        let values =
            [quoted("system"), quoted(&call.filename), quoted(&call.arguments), "true".into()];
        let keys = ENTRY_KEYS.iter().map(|key| self.entry_key(key));
        keys.zip(values).collect()
    }

    fn registered(&mut self, event: Event, call: &Call, instead: &str) {
        self.start_differs |= event == Event::Start;
        let (call, event) = (line(&call.filename, &call.arguments), event.name());
        let file = self.reader.file.display();
        let text = format!(
            "registered {call} as the system-context {event} executable in {file}{instead}"
        );
        self.say(Level::Info, text);
    }

    fn register(
        &mut self,
        event: &EventAt<'d>,
        node: &'d Node,
        call: &Call,
    ) -> Result<(), Refusal> {
        let mut missing = Vec::new();
        let system: Vec<&Entry<'d>> = event.entries.iter().filter(|e| e.is("system")).collect();
        match (system.as_slice(), event.executables) {
            ([entry], _) => self.settle(event.event, entry, call)?,
            ([_, second, ..], _) => {
                let what = format!(
                    "a second system-context executable of {}: AppStream takes one for each \
                     context, so take one out",
                    event.event.name()
                );
                return Err(self.reader.malformed(second.node.span.start, &what));
            }
            ([], Some(array)) => {
                if event.entries.len() >= MOST_EXECUTABLES {
                    let what = format!(
                        "{} executables of {} already, none of them in the system context: \
                         AppStream takes one for each context, so take one out",
                        event.entries.len(),
                        event.event.name()
                    );
                    return Err(self.reader.malformed(array.span.start, &what));
                }
                let like = event.entries.first().map(|entry| entry.node);
                let like = like.or(self.entries.first().copied());
                let edit = self.layout.add_item(array, like, self.members(call));
                self.edit(edit);
                self.registered(event.event, call, "");
            }
            ([], None) => {
                missing.push(self.executables(call));
                self.registered(event.event, call, "");
            }
        }
        missing.extend(self.fit(event, call)?);
        if !missing.is_empty() {
            let edit = self.layout.add_members(node, missing);
            self.edit(edit);
        }
        Ok(())
    }

    /// Makes the one system-context entry ours.
    fn settle(&mut self, event: Event, entry: &Entry<'d>, call: &Call) -> Result<(), Refusal> {
        let (filename_at, filename) = self.reader.filename(entry)?;
        let (arguments_at, arguments) = self.reader.arguments(entry)?;
        let logged = self.reader.entry_value(entry, "s3LogEnabled")?;
        let foreign = !filename.is_empty() && !self.is_ours(filename);
        if foreign && !self.wanted.replace {
            let place = filename_at.unwrap_or(entry.node).span.start;
            let slip = self.slip_in(filename);
            let why = match slip {
                Some(slip) => format!(": {slip}"),
                None => ", which is not efs-agent".to_owned(),
            };
            let what = format!(
                "the system-context {} executable is {}{why}",
                event.name(),
                line(filename, arguments)
            );
            let error = ConfigError::at(self.reader.file, self.reader.document.text, place, &what);
            let theirs = Theirs { filename: filename.to_owned(), what: error.to_string(), slip };
            match event {
                Event::Start => self.foreign.start = Some(theirs),
                Event::Termination => self.foreign.termination = Some(theirs),
            }
            return Ok(());
        }
        let wanted = [
            ("filename", filename_at, filename, &call.filename),
            ("arguments", arguments_at, arguments, &call.arguments),
        ];
        let mut missing = Vec::new();
        let differs = (filename, arguments) != (&call.filename, &call.arguments);
        // Of an entry that was empty or another's, that it is ours now says it all.
        let was_ours = !filename.is_empty() && !foreign;
        let set_to = |key: &str, value: &str, was: &str| {
            format!("{key} of the system-context {} entry set to {value}, {was}", event.name())
        };
        for (key, node, old, new) in wanted {
            let was = match node {
                Some(node) if old != new || node.value == Value::Null => {
                    self.set(node, quoted(new));
                    "it was null"
                }
                Some(_) => continue,
                None => {
                    missing.push((key, quoted(new)));
                    "there was none"
                }
            };
            if !differs {
                self.say(Level::Info, set_to(key, &quoted(new), was));
            }
        }
        match logged.map(|node| &node.value) {
            None => {
                missing.push(("s3LogEnabled", "true".into()));
                if was_ours {
                    self.say(Level::Info, set_to("s3LogEnabled", "true", "there was none"));
                }
            }
            Some(Value::Null) => {
                logged.into_iter().for_each(|node| self.set(node, "true".into()));
                if was_ours {
                    self.say(Level::Info, set_to("s3LogEnabled", "true", "it was null"));
                }
            }
            Some(Value::Boolean(true)) => {}
            Some(_) => {
                let text = format!(
                    "s3LogEnabled of the system-context {} entry is {}: what efs-agent says will \
                     not be in the S3 session log unless it is true",
                    event.name(),
                    logged.map_or("", |node| self.reader.document.slice(node.span.clone()))
                );
                self.say(Level::Warning, text);
            }
        }
        if !missing.is_empty() {
            let spelt =
                missing.into_iter().map(|(key, value)| (self.entry_key(key), New::Text(value)));
            let edit = self.layout.add_members(entry.node, spelt.collect());
            self.edit(edit);
        }
        if differs {
            let instead = if foreign {
                let old = self.reader.document.slice(entry.node.span.clone());
                format!(", in place of {}", on_one_line(old))
            } else if filename.is_empty() {
                String::new()
            } else {
                format!(", in place of {}", line(filename, arguments))
            };
            self.registered(event, call, &instead);
        }
        Ok(())
    }

    /// An event that the file does not have.
    fn whole_event(&mut self, event: Event, call: &Call) -> Result<(String, New), Refusal> {
        let executables = self.executables(call);
        self.registered(event, call, "");
        let waiting = self.fit(&EventAt::absent(event), call)?;
        let key = spell(event.name(), &Event::NAMES, &[&self.reader.document.root]);
        Ok((key, New::Object([executables].into_iter().chain(waiting).collect())))
    }

    /// `"executables": [ … ]` with our entry in it.
    fn executables(&self, call: &Call) -> (String, New) {
        let members = self.members(call).into_iter().map(|(key, value)| (key, New::Text(value)));
        let list = New::List(Box::new(New::Object(members.collect())));
        (self.event_key("executables"), list)
    }

    /// Sees to it that AppStream waits long enough; the member to add if the event has none.
    fn fit(&mut self, at: &EventAt<'d>, call: &Call) -> Result<Option<(String, New)>, Refusal> {
        let event = at.event.name();
        let (key, limit) = (call.limit_key, humantime::format_duration(call.limit));
        let least = call.limit.saturating_add(SPARE);
        if least > Duration::from_secs(LONGEST_WAIT) {
            let most = LONGEST_WAIT - SPARE.as_secs();
            return Err(Refusal::NeverFits(format!(
                "{key} {limit} can never fit: AppStream waits for {event} at most {LONGEST_WAIT} s \
                 (waitingTime), and the run must end 2 s before that; make {key} {most}s or less \
                 in the config of efs-agent"
            )));
        }
        let good =
            milliseconds(call.limit.saturating_add(COMFORT)).div_ceil(1000).min(LONGEST_WAIT);
        let Some(waiting) = at.waiting.filter(|waiting| waiting.value != Value::Null) else {
            let text = format!(
                "waitingTime of {event} set to {good}: there was none, and {key} {limit} must end \
                 2 s before it"
            );
            self.say(Level::Info, text);
            if let Some(null) = at.waiting {
                self.set(null, good.to_string());
                return Ok(None);
            }
            let key_there = self.event_key("waitingTime");
            return Ok(Some((key_there, New::Text(good.to_string()))));
        };
        if waiting.value != Value::Number {
            return Err(self.reader.wrong("waitingTime", waiting, "a number of seconds"));
        }
        let old = self.reader.document.slice(waiting.span.clone());
        let span = in_milliseconds(old);
        self.cut_off |= at.event == Event::Start && span <= milliseconds(call.limit);
        if span < milliseconds(least) {
            self.set(waiting, good.to_string());
            let text = format!(
                "waitingTime of {event} raised from {old} to {good}: {key} {limit} must end 2 s before it"
            );
            self.say(Level::Info, text);
        } else if span > LONGEST_WAIT * 1000 {
            let text = format!(
                "waitingTime of {event} is {old}, but AppStream takes at most {LONGEST_WAIT}"
            );
            self.say(Level::Warning, text);
        }
        Ok(None)
    }

    /// Empties the entries of the event that are ours, as AppStream's own file has them empty.
    fn take_out(&mut self, event: &EventAt<'d>) -> Result<(), Refusal> {
        for entry in event.entries.iter().filter(|entry| !entry.is("user")) {
            let (Some(node), filename) = self.reader.filename(entry)? else { continue };
            if !self.is_ours(filename) {
                continue;
            }
            let (arguments_at, arguments) = self.reader.arguments(entry)?;
            self.set(node, quoted(""));
            if let Some(node) = arguments_at.filter(|_| !arguments.is_empty()) {
                self.set(node, quoted(""));
            }
            let text = format!(
                "unregistered {}: it is no longer the system-context {} executable in {}",
                line(filename, arguments),
                event.event.name(),
                self.reader.file.display()
            );
            self.say(Level::Info, text);
        }
        Ok(())
    }

    /// A user-context entry is never touched, but one of ours in it cannot work.
    fn warn_of_user(&mut self, event: &EventAt<'d>) {
        let wrong = event.entries.iter().filter(|entry| entry.is("user")).any(|entry| {
            self.reader.filename(entry).is_ok_and(|(_, filename)| self.is_ours(filename))
        });
        if wrong {
            let text = format!(
                "the user-context {} entry names efs-agent, which must run as root: empty it",
                event.event.name()
            );
            self.say(Level::Warning, text);
        }
    }
}

/// A program and its arguments as a person writes them.
fn line(filename: &str, arguments: &str) -> String {
    if arguments.is_empty() { filename.to_owned() } else { format!("{filename} {arguments}") }
}

/// JSON text without its line breaks and indentation.
fn on_one_line(json: &str) -> String {
    json.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// `key` (one of `known`) as the first of `objects` spells it that has it; where none has, in the
/// letter case of the first of `known` that there is; else as documented.
fn spell(key: &str, known: &[&str], objects: &[&Node]) -> String {
    let mut sample = None;
    for node in objects {
        let Value::Object(members) = &node.value else { continue };
        for Member { key: found, .. } in members {
            if found.eq_ignore_ascii_case(key) {
                return found.clone();
            }
            sample = sample.or(known
                .iter()
                .find(|known| known.eq_ignore_ascii_case(found))
                .map(|known| (found.as_str(), *known)));
        }
    }
    match sample {
        Some((found, documented)) if found != documented => {
            let mut spelt = key.to_owned();
            if found == documented.to_ascii_lowercase() {
                spelt.make_ascii_lowercase();
            } else if found == documented.to_ascii_uppercase() {
                spelt.make_ascii_uppercase();
            } else if let Some(first) = spelt.get_mut(..1) {
                match found.starts_with(|c: char| c.is_ascii_uppercase()) {
                    true => first.make_ascii_uppercase(),
                    false => first.make_ascii_lowercase(),
                }
            }
            spelt
        }
        _ => key.to_owned(),
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A JSON number of seconds in milliseconds, rounded down; what is negative is 0, what is too large
/// is as large as can be.
fn in_milliseconds(number: &str) -> u64 {
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        None => (number, 0),
        Some((mantissa, exponent)) => {
            let beyond = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
            (mantissa, exponent.parse::<i32>().map_or(beyond, i64::from))
        }
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // How many of the digits stand before the point, once the number is in milliseconds.
    let mut before = whole.len() as i64 + exponent + 3;
    let mut value: u64 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if before <= 0 {
            return value;
        }
        // "-": a negative time is none.
        if !digit.is_ascii_digit() {
            return 0;
        }
        value = value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
        before -= 1;
    }
    while before > 0 && value > 0 && value < u64::MAX {
        value = value.saturating_mul(10);
        before -= 1;
    }
    value
}

#[cfg(test)]
pub mod tests {
    //! Exact bytes; documents at random are in `random.rs`.
    use super::*;

    const FILE: &str = "/s/config.json";

    /// Ours for `event`, with the default limits.
    pub fn call(event: &str, filename: &str) -> Option<Call> {
        let (arguments, limit, limit_key) = match event {
            "SessionStart" => ("", 25, "deadline"),
            _ => ("unmount", 20, "unmount_deadline"),
        };
        Some(Call {
            filename: filename.into(),
            arguments: arguments.into(),
            limit: Duration::from_secs(limit),
            limit_key,
        })
    }

    /// Registered at both events.
    pub fn both() -> Wanted {
        let own = "/usr/sbin/efs-agent";
        Wanted {
            own: Some(own.into()),
            start: call("SessionStart", own),
            termination: call("SessionTermination", own),
            replace: false,
        }
    }

    fn start() -> Wanted {
        Wanted { termination: None, ..both() }
    }

    /// Registered at none.
    pub fn none() -> Wanted {
        Wanted { start: None, termination: None, ..both() }
    }

    fn changed(text: &str, wanted: &Wanted) -> (String, Vec<String>) {
        let change = change(Path::new(FILE), text, wanted).unwrap();
        let notes = change.notes.into_iter().map(|(level, text)| match level {
            Level::Info => text,
            level => format!("{}: {text}", level.word()),
        });
        (change.text, notes.collect())
    }

    fn refused(text: &str, wanted: &Wanted) -> String {
        change(Path::new(FILE), text, wanted).unwrap_err().to_string()
    }

    const START: &str = "registered /usr/sbin/efs-agent as the system-context SessionStart executable in /s/config.json";
    const END: &str = "registered /usr/sbin/efs-agent unmount as the system-context SessionTermination \
                       executable in /s/config.json";

    #[test]
    fn null_is_absent_wherever_that_may_be_and_what_is_put_in_takes_its_place() {
        let go = "{\n  \"SessionStart\": {\n    \"executables\": null,\n    \"waitingTime\": 0\n  },\n  \
                  \"SessionTermination\": {\n    \"executables\": null,\n    \"waitingTime\": null\n  }\n}\n";
        let (text, notes) = changed(go, &both());
        let list = |arguments: &str| {
            format!(
                "[\n      {{\n        \"context\": \"system\",\n        \"filename\": \"/usr/sbin/efs-agent\",\n        \
                 \"arguments\": \"{arguments}\",\n        \"s3LogEnabled\": true\n      }}\n    ]"
            )
        };
        let expected = go
            .replacen("null", &list(""), 1)
            .replacen("null", &list("unmount"), 1)
            .replacen(": 0", ": 30", 1)
            .replacen("null", "25", 1);
        assert_eq!(text, expected);
        assert_eq!((notes[0].as_str(), notes[2].as_str()), (START, END));
        let (again, notes) = changed(&text, &both());
        assert_eq!((again.as_str(), notes.len()), (text.as_str(), 0));
        // Nothing of ours in it: every byte stays.
        assert_eq!(changed(go, &none()), (go.to_owned(), Vec::new()));
        let entry = "{\"context\": \"system\", \"filename\": \"/usr/sbin/efs-agent\", \"arguments\": \"\", \
                     \"s3LogEnabled\": true}";
        let event = format!("{{\"executables\": [{entry}], \"waitingTime\": 30}}");
        let whole = format!("{{\"SessionStart\": {event}}}");
        for (old, new) in [
            ("null", &whole),
            ("{\"SessionStart\": null}", &whole),
            ("{\"SessionStart\": {\"executables\": null, \"waitingTime\": 30}}", &whole),
            ("{\"SessionStart\": {\"executables\": [null], \"waitingTime\": null}}", &whole),
            (
                "{\"SessionStart\": {\"executables\": [null, null], \"waitingTime\": 30}}",
                &whole.replace("true}]", "true}, null]"),
            ),
            (
                "{\"SessionStart\": {\"executables\": [{\"context\": \"system\", \"filename\": null, \"arguments\": null, \
                 \"s3LogEnabled\": null}], \"waitingTime\": 30}}",
                &whole,
            ),
        ] {
            let bare = |text: &str| text.replace("{ ", "{").replace(" }", "}");
            assert_eq!(bare(&changed(old, &start()).0), *new, "{old}");
            assert_eq!(changed(old, &none()), (old.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn the_empty_entries_of_appstreams_own_file_are_filled_and_emptied_again() {
        let empty = empty();
        let (text, notes) = changed(&empty, &both());
        let mut expected = empty.replacen("\"\"", "\"/usr/sbin/efs-agent\"", 1);
        let second = expected.find("SessionTermination").unwrap();
        let end = expected.split_off(second);
        let end = end.replacen("\"\"", "\"/usr/sbin/efs-agent\"", 1);
        expected += &end.replacen("\"arguments\": \"\"", "\"arguments\": \"unmount\"", 1);
        assert_eq!(text, expected);
        assert_eq!(notes, [START, END]);
        let (again, notes) = changed(&text, &both());
        assert_eq!((again.as_str(), notes.len()), (text.as_str(), 0));
        let (emptied, notes) = changed(&text, &none());
        assert_eq!(emptied, empty);
        assert_eq!(
            notes,
            [
                "unregistered /usr/sbin/efs-agent: it is no longer the system-context SessionStart \
                 executable in /s/config.json",
                "unregistered /usr/sbin/efs-agent unmount: it is no longer the system-context \
                 SessionTermination executable in /s/config.json",
            ]
        );
        assert_eq!(changed(&emptied, &none()), (empty, vec![]));
    }

    #[test]
    fn what_is_added_looks_like_what_is_there() {
        // What is there, and what becomes of it.
        let cases = [
            (
                "{}",
                r#"{ "SessionStart": { "executables": [{ "context": "system", "filename": "/usr/sbin/efs-agent", "arguments": "", "s3LogEnabled": true }], "waitingTime": 30 } }"#,
            ),
            (
                "{\"a\":1}",
                r#"{"a":1,"SessionStart":{"executables":[{"context":"system","filename":"/usr/sbin/efs-agent","arguments":"","s3LogEnabled":true}],"waitingTime":30}}"#,
            ),
            (
                "\u{feff}{\r\n\t\"X\" : 1.50\r\n}",
                "\u{feff}{\r\n\t\"X\" : 1.50,\r\n\t\"SessionStart\" : {\r\n\t\t\"executables\" : [\r\n\t\t\t{\r\n\t\t\t\t\"context\" : \"system\",\r\n\t\t\t\t\"filename\" : \"/usr/sbin/efs-agent\",\r\n\t\t\t\t\"arguments\" : \"\",\r\n\t\t\t\t\"s3LogEnabled\" : true\r\n\t\t\t}\r\n\t\t],\r\n\t\t\"waitingTime\" : 30\r\n\t}\r\n}",
            ),
            // One entry a line, as the neighbour is; keys as the neighbour has them.
            (
                "{\n \"SESSIONSTART\": {\n  \"Executables\": [\n   { \"Context\":\"user\", \"FileName\":\"/u\" }\n  ]\n }\n}\n",
                "{\n \"SESSIONSTART\": {\n  \"Executables\": [\n   { \"Context\":\"user\", \"FileName\":\"/u\" },\n   { \"Context\":\"system\", \"FileName\":\"/usr/sbin/efs-agent\", \"Arguments\":\"\", \"S3LogEnabled\":true }\n  ],\n  \"WaitingTime\": 30\n }\n}\n",
            ),
            // What the README once told people to write.
            (
                "{\n  \"SessionTermination\": { \"executables\": [{\"context\": \"user\"}], \"waitingTime\": 30 },\n  \"SessionStart\": { \"executables\": [], \"waitingTime\": 30 }\n}\n",
                "{\n  \"SessionTermination\": { \"executables\": [{\"context\": \"user\"}], \"waitingTime\": 30 },\n  \"SessionStart\": { \"executables\": [{\"context\": \"system\", \"filename\": \"/usr/sbin/efs-agent\", \"arguments\": \"\", \"s3LogEnabled\": true}], \"waitingTime\": 30 }\n}\n",
            ),
            (
                "{\n  \"SessionStart\": {\n  }\n}",
                "{\n  \"SessionStart\": {\n    \"executables\": [\n      {\n        \"context\": \"system\",\n        \"filename\": \"/usr/sbin/efs-agent\",\n        \"arguments\": \"\",\n        \"s3LogEnabled\": true\n      }\n    ],\n    \"waitingTime\": 30\n  }\n}",
            ),
            // An entry that lacks keys gets them, in its own case.
            (
                "{\"sessionstart\": {\"waitingtime\": 2.7e1, \"executables\": [{\"CONTEXT\": \"System\", \"x\": [0.10]}]}}",
                "{\"sessionstart\": {\"waitingtime\": 2.7e1, \"executables\": [{\"CONTEXT\": \"System\", \"x\": [0.10], \"FILENAME\": \"/usr/sbin/efs-agent\", \"ARGUMENTS\": \"\", \"S3LOGENABLED\": true}]}}",
            ),
        ];
        for (old, new) in cases {
            assert_eq!(changed(old, &start()).0, new);
        }
    }

    #[test]
    fn waiting_time_is_raised_only_as_far_as_it_must_and_said() {
        let with = |time: &str| {
            format!(
                "{{\"SessionStart\": {{\"executables\": [{{\"context\": \"system\", \"filename\": \
                 \"/usr/sbin/efs-agent\", \"arguments\": \"\", \"s3LogEnabled\": true}}], \
                 \"waitingTime\": {time}}}}}"
            )
        };
        let after = |limit: f64, time: &str| {
            let mut wanted = start();
            wanted.start.as_mut().unwrap().limit = Duration::from_secs_f64(limit);
            change(Path::new(FILE), &with(time), &wanted)
        };
        for enough in ["27", "27.0", "2.7e1", "0.27E+2", "270e-1", "30", "60"] {
            let change = after(25.0, enough).unwrap();
            assert_eq!((change.text, change.notes), (with(enough), vec![]));
        }
        for (limit, old, new) in [
            (25.0, "26", "30"),
            (25.0, "26.999", "30"),
            (25.0, "-27", "30"),
            (25.0, "0", "30"),
            (25.0, "27e-1", "30"),
            (25.2, "27", "31"),
            (57.0, "58", "60"),
            (58.0, "59.9", "60"),
        ] {
            let change = after(limit, old).unwrap();
            assert_eq!(change.text, with(new), "{limit} {old}");
            let span = humantime::format_duration(Duration::from_secs_f64(limit));
            let note = format!(
                "waitingTime of SessionStart raised from {old} to {new}: deadline {span} must end 2 s before it"
            );
            assert_eq!(change.notes, [(Level::Info, note)]);
        }
        let never = after(58.5, "60").unwrap_err().to_string();
        assert_eq!(
            never,
            "deadline 58s 500ms can never fit: AppStream waits for SessionStart at most 60 s \
             (waitingTime), and the run must end 2 s before that; make deadline 58s or less in the \
             config of efs-agent"
        );
        for large in ["61", "1e400", "99999999999999999999999", "6.1e1"] {
            let change = after(25.0, large).unwrap();
            let note =
                format!("waitingTime of SessionStart is {large}, but AppStream takes at most 60");
            assert_eq!((change.text, change.notes), (with(large), vec![(Level::Warning, note)]));
        }
        assert_eq!(
            after(25.0, "\"30\"").unwrap_err().to_string(),
            "/s/config.json:1:148: waitingTime must be a number of seconds, not a string; nothing was changed"
        );
    }

    #[test]
    fn somebody_elses_entry_is_named_and_makes_way_only_if_told() {
        let text = "{\n\"SessionStart\": {\"executables\": [\n  {\"context\": \"system\", \"filename\": \"/opt/x.sh\",\n   \"arguments\": \"-v\", \"s3LogEnabled\": false, \"y\": 1}], \"waitingTime\": 30}}";
        let mut wanted = start();
        assert_eq!(
            refused(text, &wanted),
            "/s/config.json:3:37: the system-context SessionStart executable is /opt/x.sh -v, which is \
             not efs-agent; nothing was changed (--replace puts efs-agent in its place, or have \
             that script start /usr/sbin/efs-agent)"
        );
        // One that is meant to be ours is no script of theirs.
        for (filename, why) in [
            ("/usr/sbin/efs-agent --once", "arguments belong into `arguments`"),
            ("/usr/sbin/efs-agent ", "its filename has a blank at its end"),
        ] {
            let told = refused(&text.replace("/opt/x.sh", filename), &wanted);
            let end =
                format!(": {why}; nothing was changed (--replace puts efs-agent in its place)");
            assert!(told.ends_with(&end), "{told}");
        }
        wanted.replace = true;
        let (new, notes) = changed(text, &wanted);
        let expected = text.replace("/opt/x.sh", "/usr/sbin/efs-agent").replace("-v", "");
        assert_eq!(new, expected);
        assert_eq!(
            notes,
            [
                "warning: s3LogEnabled of the system-context SessionStart entry is false: what \
                 efs-agent says will not be in the S3 session log unless it is true",
                &format!(
                    "{START}, in place of {{\"context\": \"system\", \"filename\": \"/opt/x.sh\", \
                     \"arguments\": \"-v\", \"s3LogEnabled\": false, \"y\": 1}}"
                ),
            ]
        );
        let end = text.replace("SessionStart", "SessionTermination");
        assert!(
            refused(&end, &both()).ends_with(
                "(--replace puts efs-agent in its place, --no-termination leaves SessionTermination alone)"
            )
        );
        assert_eq!(changed(&end, &none()), (end.clone(), vec![]), "and is not taken out");
        assert!(changed(&end, &start()).0.contains("/opt/x.sh"));
    }

    #[test]
    fn an_entry_of_ours_is_known_by_what_it_points_at_and_brought_up_to_date() {
        let with = |filename: &str, arguments: &str| {
            empty()
                .replacen("\"filename\": \"\"", &format!("\"filename\": {filename}"), 1)
                .replacen("\"arguments\": \"\"", &format!("\"arguments\": {arguments}"), 1)
        };
        let wanted = with("\"/usr/sbin/efs-agent\"", "\"\"");
        for ours in ["\"/opt/a/efs-agent\"", "\"/opt/a/efs-agent.sh\"", "\"efs-agent\""] {
            let (text, notes) = changed(&with(ours, "\"--once\""), &start());
            assert_eq!(text, wanted);
            assert_eq!(notes, [format!("{START}, in place of {} --once", ours.trim_matches('"'))]);
        }
        let spelt = with("\"\\/usr\\/sbin\\/efs-\\u0061gent\"", "\"\"");
        assert_eq!(changed(&spelt, &start()), (spelt.clone(), vec![]), "escapes mean the same");
        for foreign in ["\"/opt/efs-agent/start\"", "\"/opt/my-efs-agent\"", "\"/bin/sh\""] {
            assert!(refused(&with(foreign, "\"\""), &start()).contains("which is not efs-agent"));
        }
        let own = Wanted {
            own: Some("/opt/agent-2".into()),
            start: call("SessionStart", "/opt/agent-2"),
            ..none()
        };
        assert!(changed(&with("\"/opt/agent-2\"", "\"\""), &own).1.is_empty());
        assert_eq!(
            changed(&with("\"/opt/agent-2\"", "\"\""), &Wanted { start: None, ..own }).0,
            empty()
        );
    }

    #[test]
    fn no_termination_takes_an_earlier_one_out() {
        let registered = changed(&empty(), &both()).0;
        let (text, notes) = changed(&registered, &start());
        assert_eq!(text, changed(&empty(), &start()).0);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].starts_with("unregistered /usr/sbin/efs-agent unmount: "), "{notes:?}");
    }

    #[test]
    fn a_user_context_entry_is_never_touched() {
        let text = empty().replace(
            "\"user\",\n        \"filename\": \"\"",
            "\"user\",\n        \"filename\": \"/a/efs-agent\"",
        );
        let (new, notes) = changed(&text, &start());
        assert_eq!(new.matches("/a/efs-agent").count(), 2);
        assert_eq!(
            notes[0],
            "warning: the user-context SessionStart entry names efs-agent, which must run as root: empty it"
        );
        assert_eq!(changed(&text, &none()).0, text);
    }

    #[test]
    fn what_is_malformed_is_refused_with_line_and_column() {
        let end = "; nothing was changed";
        let cases = [
            ("", "1:1: the file ends here, where a value should be"),
            ("[]", "1:1: the outermost value must be an object, not an array"),
            ("\u{feff}{\n  \"a\": 1,\n}", "3:1: a comma too many before this '}'"),
            ("\u{feff}{\"a\" 1}", "1:6: '1' where a colon after the key should be"),
            ("{\"SessionStart\": []}", "1:18: SessionStart must be an object, not an array"),
            (
                "{\"SessionStart\": {\"executables\": {}}}",
                "1:34: executables must be an array, not an object",
            ),
            (
                "{\"SessionStart\": {\"executables\": [1]}}",
                "1:35: each of the executables must be an object, not a number",
            ),
            (
                "{\"SessionStart\": {\"executables\": [{\"context\": \"system\", \"filename\": 1}]}}",
                "1:69: filename must be a string, not a number",
            ),
            (
                "{\"SessionStart\": {\"executables\": [{\"context\": 1}]}}",
                "1:47: context must be a string, not a number",
            ),
            (
                "{\"SessionStart\": {},\r\n \"sessionstart\": {}}",
                "2:2: \"sessionstart\" is the same key as \"SessionStart\" in line 1, column 2: take one of them out",
            ),
            (
                "{\"SessionTermination\": {\"waitingTime\": 30, \"waiting\\u0054ime\": 30}}",
                "1:44: \"waitingTime\" is the same key as \"waitingTime\" in line 1, column 25: take one of them out",
            ),
            (
                "{\"SessionStart\": {\"executables\": [{\"context\": \"system\", \"Filename\": \"\",\n\"filename\": \"\"}]}}",
                "2:1: \"filename\" is the same key as \"Filename\" in line 1, column 57: take one of them out",
            ),
            (
                "{\"SessionStart\": {\"executables\": [{\"context\": \"system\"},\n{\"context\": \"system\"}]}}",
                "2:1: a second system-context executable of SessionStart: AppStream takes one for each context, so take one out",
            ),
            (
                "{\"SessionStart\": {\"executables\": [{\"context\": \"user\"}, {}]}}",
                "1:34: 2 executables of SessionStart already, none of them in the system context: AppStream takes one for each context, so take one out",
            ),
        ];
        for (text, what) in cases {
            assert_eq!(refused(text, &both()), format!("{FILE}:{what}{end}"));
        }
        assert!(change(Path::new(FILE), "{\"a\": 1, \"A\": 2, \"a\": 3}", &both()).is_ok());
    }

    #[test]
    fn what_is_not_utf_8_is_refused_with_line_and_column() {
        let refused = |bytes: &[u8]| text(Path::new(FILE), bytes).unwrap_err().to_string();
        let end = "nothing was changed";
        assert_eq!(
            refused(b"{\n \"\xc3\xa4\xe4\": 1}"),
            format!("{FILE}:2:4: not UTF-8: save the file as UTF-8; {end}")
        );
        assert_eq!(
            refused(b"\xff\xfe{\0}\0"),
            format!("{FILE}:1:1: UTF-16: save the file as UTF-8; {end}")
        );
    }
}
