//! Progress of images: bars on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::Progress;

/// Shows [`Progress`] on standard error.
///
/// ```no_run
/// # use std::path::Path;
/// use nslab::image::Store;
/// use nslab::report::progress::ImageProgress;
///
/// let store = Store::open(&Store::default_root())?;
/// let mut shown = ImageProgress::new();
/// store.resolve("tomcat", &[], &mut |event| shown.event(event))?;
/// # Ok::<(), nslab::image::Error>(())
/// ```
#[derive(Debug)]
pub struct ImageProgress {
    bars: Option<Bars>,
    stage: String,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    /// What is done now.
    stage: ProgressBar,
    /// One a blob that is being pulled, by digest.
    blobs: HashMap<String, ProgressBar>,
}

impl Default for ImageProgress {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageProgress {
    /// Bars if standard error is a terminal that can show them, else lines.
    pub fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bars = (!all.is_hidden()).then(|| {
            let stage = all.add(ProgressBar::no_length());
            stage.enable_steady_tick(Duration::from_millis(100));
            stage.set_style(spinner());
            Bars {
                all,
                stage,
                blobs: HashMap::new(),
            }
        });
        Self {
            bars,
            stage: String::new(),
        }
    }

    /// Lines, also on a terminal.
    pub fn plain() -> Self {
        Self {
            bars: None,
            stage: String::new(),
        }
    }

    /// Shows an event.
    pub fn event(&mut self, event: Progress) {
        let Some(bars) = &mut self.bars else {
            if let Some(line) = line(&event) {
                // Standard error is gone: nobody to tell.
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            return;
        };
        let bar = &bars.stage;
        match event {
            Progress::Stage { text, step, of } => {
                self.stage = format!("[{step}/{of}] {text}");
                bar.set_style(spinner());
                bar.set_message(self.stage.clone());
            }
            Progress::Bytes {
                done,
                total: Some(total),
                ..
            } => {
                if bar.length() != Some(total) {
                    bar.set_style(bytes());
                    bar.set_length(total);
                }
                bar.set_position(done);
                bar.set_message(self.stage.clone());
            }
            Progress::Bytes {
                done, total: None, ..
            } => {
                bar.set_message(format!("{} {}", self.stage, HumanBytes(done)));
            }
            Progress::Blob {
                digest,
                done,
                total,
            } => bars.blob(&digest, done, total),
            event @ Progress::Log(_) => bars.all.suspend(|| {
                if let Some(line) = line(&event) {
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }),
            event @ Progress::Done { .. } => {
                bars.clear();
                if let Some(line) = line(&event) {
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
        }
    }
}

impl Bars {
    fn blob(&mut self, digest: &str, done: u64, total: u64) {
        let all = &self.all;
        let bar = self.blobs.entry(digest.to_owned()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(total));
            bar.set_style(blob());
            bar.set_message(short(digest).to_owned());
            bar
        });
        bar.set_position(done);
        if done == total {
            bar.finish();
        }
    }

    fn clear(&mut self) {
        for (_, bar) in self.blobs.drain() {
            bar.finish_and_clear();
        }
        self.stage.finish_and_clear();
    }
}

impl Drop for ImageProgress {
    fn drop(&mut self) {
        // After an error the bars would stay above its message.
        if let Some(bars) = &mut self.bars {
            bars.clear();
        }
    }
}

/// As much of a digest as people compare.
fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

/// An event as a line; bytes are no line's worth.
fn line(event: &Progress) -> Option<String> {
    match event {
        Progress::Stage { text, step, of } => Some(format!("[{step}/{of}] {text}")),
        Progress::Bytes { .. } => None,
        Progress::Blob {
            digest,
            done,
            total,
        } => (done == total).then(|| format!("      {} {}", short(digest), HumanBytes(*total))),
        Progress::Log(text) => Some(format!("      {text}")),
        Progress::Done { name, bytes, took } => Some(format!(
            "image {name}: {} in {:.1} s",
            HumanBytes(*bytes),
            took.as_secs_f64()
        )),
    }
}

fn spinner() -> ProgressStyle {
    style("{spinner} {msg} {elapsed}")
}

fn bytes() -> ProgressStyle {
    style("{spinner} {msg} {wide_bar} {bytes}/{total_bytes}")
}

/// A blob's: how far, how fast, how long still.
fn blob() -> ProgressStyle {
    style("      {msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_logs() {
        let stage = Progress::Stage {
            text: "packing the layer".into(),
            step: 7,
            of: 8,
        };
        assert_eq!(line(&stage).as_deref(), Some("[7/8] packing the layer"));
        assert_eq!(
            line(&Progress::Bytes {
                what: "layer",
                done: 1,
                total: None
            }),
            None
        );
        let blob = |done| Progress::Blob {
            digest: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            done,
            total: 3 << 20,
        };
        assert_eq!(line(&blob(5)), None);
        assert_eq!(
            line(&blob(3 << 20)).as_deref(),
            Some("      sha256:0123456789ab 3.00 MiB")
        );
        let done = Progress::Done {
            name: "tomcat".into(),
            bytes: 80 << 20,
            took: Duration::from_millis(14_260),
        };
        assert_eq!(
            line(&done).as_deref(),
            Some("image tomcat: 80.00 MiB in 14.3 s")
        );
    }

    #[test]
    fn templates_are_valid() {
        for template in [
            "{spinner} {msg} {elapsed}",
            "{spinner} {msg} {wide_bar} {bytes}/{total_bytes}",
            "      {msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
