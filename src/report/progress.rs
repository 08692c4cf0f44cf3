//! Progress of images: bars on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

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
    bar: Option<ProgressBar>,
    stage: String,
}

impl Default for ImageProgress {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageProgress {
    /// Bars if standard error is a terminal, else lines.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar.set_style(spinner());
            bar
        });
        Self {
            bar,
            stage: String::new(),
        }
    }

    /// Lines, also on a terminal.
    pub fn plain() -> Self {
        Self {
            bar: None,
            stage: String::new(),
        }
    }

    /// Shows an event.
    pub fn event(&mut self, event: Progress) {
        match &self.bar {
            None => {
                if let Some(line) = line(&event) {
                    // Standard error is gone: nobody to tell.
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
            Some(bar) => match event {
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
                event @ Progress::Log(_) => bar.suspend(|| {
                    if let Some(line) = line(&event) {
                        let _ = writeln!(std::io::stderr(), "{line}");
                    }
                }),
                event @ Progress::Done { .. } => {
                    bar.finish_and_clear();
                    if let Some(line) = line(&event) {
                        let _ = writeln!(std::io::stderr(), "{line}");
                    }
                }
            },
        }
    }
}

impl Drop for ImageProgress {
    fn drop(&mut self) {
        // After an error the bar would stay above its message.
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// An event as a line; bytes are no line's worth.
fn line(event: &Progress) -> Option<String> {
    match event {
        Progress::Stage { text, step, of } => Some(format!("[{step}/{of}] {text}")),
        Progress::Bytes { .. } => None,
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
        ] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
