//! The connection of a client: opened, subscribed, read, answered, lost and opened again.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use leno_model::seam::Random;
use leno_model::snapshot::Name;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::core::{Brought, Core, Receipt};
use super::{ClientOptions, Event, Refusal, Subscriptions, Update};
use crate::kind::Kind;
use crate::messages::discovery::DeltaDiscoveryResponse;
use crate::transport::{Connect, DeltaStream, StreamError};

/// A client with what it is made of.
pub(super) struct Driver<C, R> {
    options: ClientOptions,
    connect: C,
    random: R,
    subscriptions: Subscriptions,
    events: mpsc::Sender<Event>,
    core: Core,
    /// Updates that the consumer has and has not answered. They outlive the stream on which they came.
    unanswered: FuturesUnordered<Pin<Box<dyn Future<Output = Answer>>>>,
}

/// A consumer's answer to an update.
struct Answer {
    receipt: Receipt,
    removed: Vec<(Kind, Name)>,
    refusals: Vec<Refusal>,
}

/// The consumer has gone.
struct Gone;

// === impl Driver ===

impl<C: Connect, R: Random> Driver<C, R> {
    pub(super) fn new(
        options: ClientOptions,
        connect: C,
        random: R,
        subscriptions: Subscriptions,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let core = Core::new(options.node.clone(), options.held.clone());
        Self { options, connect, random, subscriptions, events, core, unanswered: FuturesUnordered::new() }
    }

    /// Connects, serves the stream, waits, tries the next server.
    pub(super) async fn run(mut self) {
        let mut backoff = self.options.backoff_min;
        let mut server = 0;
        while !self.events.is_closed() {
            let name = self.connect.server(server);
            let opened = timeout(self.options.connect_timeout, self.connect.open(server)).await;
            let reason = match opened {
                Ok(Ok(stream)) => {
                    let since = Instant::now();
                    let Ok(reason) = self.serve(&name, stream).await else { return };
                    if since.elapsed() >= self.options.backoff_max {
                        backoff = self.options.backoff_min;
                    }
                    reason
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} ms", self.options.connect_timeout.as_millis()),
            };
            let retry_in = self.jittered(backoff);
            backoff = (backoff * 2).min(self.options.backoff_max);
            server += 1;
            let event = Event::Disconnected { server: name, reason, retry_in };
            if self.tell(event).await.is_err() || self.rest(retry_in).await.is_err() {
                return;
            }
        }
    }

    /// From half of it to all of it, so that many clients that lost one server do not come back together.
    fn jittered(&mut self, backoff: Duration) -> Duration {
        let half = backoff / 2;
        half + Duration::from_nanos(self.random.below(half.as_nanos() as u64 + 1))
    }

    /// Waits, and hears answers meanwhile.
    async fn rest(&mut self, duration: Duration) -> Result<(), Gone> {
        let mut end = std::pin::pin!(sleep(duration));
        loop {
            tokio::select! {
                () = &mut end => return Ok(()),
                () = self.events.closed() => return Err(Gone),
                Some(answer) = self.unanswered.next() => {
                    // The stream has gone; what is in use is remembered all the same.
                    let _ = self.answer(answer);
                }
            }
        }
    }

    /// Serves a stream until it ends; the reason why it did.
    async fn serve(&mut self, name: &str, mut stream: impl DeltaStream) -> Result<String, Gone> {
        self.core.connected();
        self.tell(Event::Connected { server: name.to_owned() }).await?;
        match self.exchange(&mut stream).await? {
            Ok(()) => Ok("the server ended the stream".to_owned()),
            Err(error) => Ok(error.to_string()),
        }
    }

    async fn exchange(&mut self, stream: &mut impl DeltaStream) -> Result<Result<(), StreamError>, Gone> {
        let changed = self.subscriptions.changed.clone();
        loop {
            let names = self.subscriptions.take();
            let requests = self.core.ask(&names.wanted, &names.dropped);
            for request in requests {
                if let Err(error) = stream.send(request).await {
                    return Ok(Err(error));
                }
            }
            // Answers first: they make room, and the server waits for them.
            tokio::select! {
                biased;
                () = self.events.closed() => return Err(Gone),
                Some(answer) = self.unanswered.next() => {
                    if let Some(request) = self.answer(answer)
                        && let Err(error) = stream.send(request).await {
                        return Ok(Err(error));
                    }
                }
                () = changed.notified() => {}
                message = stream.next(), if self.events.capacity() > 0 => match message {
                    Ok(None) => return Ok(Ok(())),
                    Err(error) => return Ok(Err(error)),
                    Ok(Some(message)) => self.take(message).await?,
                },
                // The consumer is slow; what it has taken meanwhile is looked at again soon.
                () = sleep(Duration::from_millis(10)), if self.events.capacity() == 0 => {}
            }
        }
    }

    /// Hands what a message brought to the consumer.
    async fn take(&mut self, message: DeltaDiscoveryResponse) -> Result<(), Gone> {
        let brought = self.core.read(message);
        let is_empty = brought.is_empty();
        let Brought { listeners, routes, clusters, endpoints, removed, receipt } = brought;
        let (answer, answered) = oneshot::channel();
        if is_empty {
            // Nobody else has a say about it.
            let _ = answer.send(Vec::new());
            self.unanswered.push(Box::pin(hear(receipt, removed, answered)));
            return Ok(());
        }
        self.unanswered.push(Box::pin(hear(receipt, removed.clone(), answered)));
        self.tell(Event::Update(Update { listeners, routes, clusters, endpoints, removed, answer })).await
    }

    /// What to say to the server; nothing if its stream has gone.
    fn answer(&mut self, answer: Answer) -> Option<crate::messages::discovery::DeltaDiscoveryRequest> {
        self.core.forget(&answer.removed);
        self.core.answer(answer.receipt, answer.refusals)
    }

    async fn tell(&self, event: Event) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }
}

/// Waits for the consumer's answer to an update.
async fn hear(receipt: Receipt, removed: Vec<(Kind, Name)>, answered: oneshot::Receiver<Vec<Refusal>>) -> Answer {
    match answered.await {
        Ok(refusals) => Answer { receipt, removed, refusals },
        Err(_) => {
            let refusals = receipt.refuse_all("the proxy dropped it");
            Answer { receipt, removed: Vec::new(), refusals }
        }
    }
}
