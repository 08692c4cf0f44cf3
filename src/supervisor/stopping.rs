//! Taking a lab down: processes first, captures last.

use std::rc::Rc;
use std::time::Duration;

use super::answer::reply;
use super::health::Checks;
use super::nodes::{self, Init};
use super::protocol::Reply;
use super::serve::{Asker, Inbox, Supervisor};
use super::{Event, teardown};

/// After this long it is told whom we wait for.
const PATIENCE: Duration = Duration::from_secs(2);

/// And from then on this often: whoever asked takes silence for a supervisor that hangs.
const AGAIN: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Everything off, captures last. What is told goes to `up`, if it still waits, and to all who
    /// asked for the end.
    pub(super) async fn take_down(self: &Rc<Self>, asker: Option<Asker>, inbox: &mut Inbox) {
        let mut askers: Vec<Asker> = asker.into_iter().collect();
        let inits: Vec<_> = {
            let mut live = self.state.borrow_mut();
            live.stopping = true;
            // Servers that end now are not dead ones.
            live.checks = Checks::default();
            let inits = live.nodes.values_mut().filter_map(|n| n.init.take());
            inits.collect()
        };
        self.stop(&inits, &mut askers, inbox).await;
        let captures = self.state.borrow_mut().captures.take();
        let mut events = Vec::new();
        if let Some(captures) = captures {
            captures.close();
            let interfaces = captures.stats();
            events.push(Event::Captured {
                interfaces: interfaces.clone(),
            });
            // While the lab's name is still ours: nobody else writes into its folder.
            events.extend(self.merged(interfaces).await);
        }
        events.push(Event::Down {
            lab: self.lab.name().to_string(),
            errors: teardown::undo_all(&self.dir),
        });
        // Before anybody is told that it is down, and removes the images.
        drop(self.starter.holding.take());
        for event in events {
            self.tell_all(&event, &mut askers).await;
        }
        self.bus.close().await;
    }

    /// Stops the nodes. A main process may have an hour for its end: meanwhile everybody is
    /// answered, and told whom we wait for.
    async fn stop(self: &Rc<Self>, inits: &[Init], askers: &mut Vec<Asker>, inbox: &mut Inbox) {
        let begun = tokio::time::Instant::now();
        let mut stopped = std::pin::pin!(nodes::stop(inits));
        let mut tick = tokio::time::interval_at(begun + PATIENCE, AGAIN);
        loop {
            tokio::select! {
                () = &mut stopped => return,
                _ = tick.tick() => {
                    if let Some(event) = waiting(inits, begun.elapsed()) {
                        self.tell_all(&event, askers).await;
                    }
                }
                Ok((stream, _)) = inbox.listener.accept() => self.clone().answer(stream),
                Some(another) = inbox.stop.recv() => askers.extend(another),
            }
        }
    }

    async fn tell_all(&self, event: &Event, askers: &mut [Asker]) {
        self.event(event);
        for stream in askers {
            let event = event.clone();
            let _ = reply(stream, &Reply::Event { event }).await;
        }
    }
}

/// Whose main processes have not ended yet.
fn waiting(inits: &[Init], since: Duration) -> Option<Event> {
    let waiting: Vec<&Init> = inits.iter().filter(|i| !i.has_ended()).collect();
    let longest = waiting.iter().map(|i| i.grace).max()?;
    let mut nodes: Vec<String> = waiting.iter().map(|i| i.node.clone()).collect();
    nodes.sort();
    let left_ms = longest.saturating_sub(since).as_millis() as u64;
    Some(Event::Stopping { nodes, left_ms })
}
