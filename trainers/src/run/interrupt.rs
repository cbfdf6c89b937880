//! Ctrl-C and SIGTERM: the first asks a run to save what it has and stop, the second stops it at once.
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Whether a run is under way, which has something to save.
static UNDER_WAY: AtomicBool = AtomicBool::new(false);
/// Set by the first signal of a run.
static ASKED: AtomicBool = AtomicBool::new(false);

/// The optimiser step after which runs stop.
static LAST: AtomicU64 = AtomicU64::new(u64::MAX);

/// A directory that the program removes before a signal ends it.
static TEMPORARY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// The exit code of a program that a signal has stopped, as shells know it from SIGINT: 128 + 2.
pub const EXIT_CODE: u8 = 130;

/// From now on SIGINT, SIGTERM and SIGHUP ask a run to stop; without a run they end the program. For the program, not for
/// the library: whoever embeds the trainers keeps their own signals, and may call [`ask`]. Errors: the system takes no
/// handler.
pub fn install() -> Result<()> {
    let ignored = ignored();
    ctrlc::set_handler(|| {
        let first = UNDER_WAY.load(Ordering::SeqCst) && !ASKED.swap(true, Ordering::SeqCst);
        if first {
            tell!("\nstopping: this optimiser step is finished and a checkpoint saved; once more stops at once");
        } else {
            if let Some(directory) = TEMPORARY.lock().ok().and_then(|mut kept| kept.take()) {
                let _ = std::fs::remove_dir_all(directory);
            }
            std::process::exit(i32::from(EXIT_CODE));
        }
    })
    .map_err(|e| Error::Internal(format!("signals: {e}")))?;
    ignore(&ignored);
    Ok(())
}

/// The signals that whoever started the program wants ignored: SIGHUP under nohup.
#[cfg(unix)]
fn ignored() -> Vec<i32> {
    let is_ignored = |signal: &i32| {
        // SAFETY: a null pointer for the new action only asks for the present one, which is written into `now`.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            libc::sigaction(*signal, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
        }
    };
    [libc::SIGHUP, libc::SIGINT, libc::SIGTERM].into_iter().filter(is_ignored).collect()
}

/// Goes on ignoring them.
#[cfg(unix)]
fn ignore(signals: &[i32]) {
    for signal in signals {
        // SAFETY: SIG_IGN is a valid disposition of every signal that `ignored` names.
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
}

#[cfg(not(unix))]
fn ignored() {}

#[cfg(not(unix))]
fn ignore(_: &()) {}

/// A run begins: from now on it is asked before it is stopped. What was asked of an earlier one is done with.
pub fn begin() {
    ASKED.store(false, Ordering::SeqCst);
    UNDER_WAY.store(true, Ordering::SeqCst);
}

/// The run has come to its end.
pub fn end() {
    UNDER_WAY.store(false, Ordering::SeqCst);
}

/// Names a directory that is to be removed where a signal ends the program; None for none.
pub fn leaves(temporary: Option<PathBuf>) {
    if let Ok(mut kept) = TEMPORARY.lock() {
        *kept = temporary;
    }
}

/// Asks the run to stop after its present optimiser step, with a checkpoint.
pub fn ask() {
    ASKED.store(true, Ordering::SeqCst);
}

/// From now on runs stop after this optimiser step, as if they were asked to then; None: after their last.
pub fn stop_after(step: Option<u64>) {
    LAST.store(step.unwrap_or(u64::MAX), Ordering::SeqCst);
}

/// Whether a run that has done so many steps is to stop.
pub fn asked(steps: u64) -> bool {
    ASKED.load(Ordering::SeqCst) || steps >= LAST.load(Ordering::SeqCst)
}
