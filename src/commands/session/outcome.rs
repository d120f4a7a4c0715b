//! The words of a session start about itself: who this machine is to its servers, how each share ended, and the last
//! lines. Nothing is decided here.

use crate::config::{Level, Settings};
use crate::log::Log;
use crate::report::{Code, Outcome, OutcomeText, Report};
use crate::share::client::{ClientIdentity, NfsClient};
use crate::sys;
use crate::text::VERSION;
use std::fmt;
use std::path::Path;

/// Logs the first line: what is run, by which config.
pub(super) fn log_start(path: &Path, settings: &Settings, session: impl fmt::Display, log: &Log) {
    let shares = match settings.shares.len() {
        1 => "1 share".to_owned(),
        n => format!("{n} shares"),
    };
    log.info(format_args!(
        "{VERSION}: config {}, {shares}, deadline {}{session}",
        path.display(),
        humantime::format_duration(settings.deadline),
    ));
}

/// Logs who this machine is to its servers, and warns where that leaves a risk.
pub(super) fn log_client(client: &NfsClient, log: &Log) {
    let level = match client.identity {
        ClientIdentity::Unset { .. } => Level::Warning,
        // The line about a share's mount says what that means.
        ClientIdentity::NoClient => return,
        ClientIdentity::Set { .. } => Level::Debug,
    };

    if log.takes(level) {
        log.line(level, client.identity.sentence(&sys::host_name()));
    }
    if client.earlier {
        let host = sys::host_name();
        log.warning(format_args!(
            "NFS was mounted on this machine before its client had an identity: these mounts, and shares from \
             the same server address, are known there as {host} alone, and another machine of that host name \
             would take their locks; unmount them and run this again, or run this before them"
        ));
    }
}

/// Logs the last lines, and returns the exit code.
pub(crate) fn log_end(report: &Report, once: bool, log: &Log) -> Code {
    let code = report.code();

    // Each of several shares got its line when it ended. The line of a single share is the last
    // line.
    if let [outcome] = report.outcomes.as_slice() {
        let text = outcome.text(report.stopped_by);
        log_outcome(&text, outcome.share.required, once, Some(code), log);
    } else {
        let text = format!("{} (exit {})", report.summary(), code.0);
        if code == Code::OK { log.info(text) } else { log.error(text) }
    }
    code
}

/// Logs the outcome of one of several shares.
pub(super) fn log_one_of_several(outcome: &Outcome, once: bool, log: &Log) {
    log_outcome(&outcome.text(None), outcome.share.required, once, None, log);
}

/// Logs a line for the session log, or several for a person (`once`). `code` is given if these
/// lines are the last.
fn log_outcome(text: &OutcomeText, required: bool, once: bool, code: Option<Code>, log: &Log) {
    let OutcomeText { line, cure } = text;
    let exit = code.map(|code| format!(" (exit {})", code.0)).unwrap_or_default();
    let level = if required { Level::Error } else { Level::Warning };
    match cure {
        None => log.info(format_args!("{line}{exit}")),
        Some(cure) if !once => log.line(level, format!("{line}; to mend it: {cure}{exit}")),
        Some(cure) => {
            log.line(level, line);
            log.info(format_args!("  to mend it: {cure}"));
            let Some(code) = code else { return };
            let more = match code {
                Code::DEADLINE => ": a session start would try again until its deadline",
                Code::OK => ": the share is optional",
                _ => "",
            };

            log.info(format_args!("  exit {}{more}", code.0));
        }
    }
}
