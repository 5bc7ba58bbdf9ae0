//! Waking the driver from other threads, and the queue of commands that goes with it.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;

use tokio::sync::oneshot;

use super::driver::Feed;
use crate::error::{Error, ErrorKind, Result};
use crate::reply::Reply;

/// Wakes a driver; cheap when it is awake, and one wake for a burst when it sleeps.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: AtomicU8,
    stop: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

impl Signal {
    /// Makes the driver look again; callable from any thread.
    pub(crate) fn notify(&self) {
        // A driver that is awake sees the flag before it sleeps: no system call.
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP
            && let Some(waker) = &*lock(&self.waker)
        {
            waker.wake_by_ref();
        }
    }

    /// Makes the driver end, without waiting for anything.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.notify();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The driver is awake, and looks at everything after this.
    pub(super) fn awake(&self, context: &Context<'_>) {
        let mut waker = lock(&self.waker);
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        drop(waker);
        self.state.store(AWAKE, Ordering::Release);
    }

    /// Whether the driver may sleep: nobody has notified it since it awoke.
    pub(super) fn sleep(&self) -> bool {
        self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The most commands that may wait for a driver; each has a caller who waits for its answer.
const COMMANDS_MAX: usize = 100_000;

/// Commands on their way to a driver.
pub(crate) struct Mailbox<C> {
    shared: Arc<Shared<C>>,
    signal: Arc<Signal>,
}

struct Shared<C> {
    queue: Mutex<Queue<C>>,
}

struct Queue<C> {
    commands: VecDeque<C>,
    closed: bool,
}

impl<C> Clone for Mailbox<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), signal: Arc::clone(&self.signal) }
    }
}

impl<C> Mailbox<C> {
    /// A mailbox whose driver is woken by `signal`, and its other end, for the driver.
    pub(crate) fn new(signal: Arc<Signal>) -> (Self, MailboxFeed<C>) {
        let queue = Mutex::new(Queue { commands: VecDeque::new(), closed: false });
        let shared = Arc::new(Shared { queue });
        (Self { shared: Arc::clone(&shared), signal }, MailboxFeed(shared))
    }

    /// Hands over a command.
    ///
    /// # Errors
    /// `Closed` when the driver has ended; `Usage` when 100 000 commands wait already.
    pub(crate) fn send(&self, command: C) -> Result<()> {
        self.hand_over(command, COMMANDS_MAX, false)
    }

    /// Hands over what the application has done already: were that refused because others have asked too much, the two
    /// sides would disagree from then on. There is room for as many commands again.
    ///
    /// # Errors
    /// As [`send`](Self::send), when 200 000 commands wait.
    pub(crate) fn tell(&self, command: C) -> Result<()> {
        self.hand_over(command, 2 * COMMANDS_MAX, false)
    }

    fn hand_over(&self, command: C, most: usize, is_last: bool) -> Result<()> {
        {
            let mut queue = lock(&self.shared.queue);
            if queue.closed {
                return Err(Error::new(ErrorKind::Closed, "the client is closed"));
            }
            if queue.commands.len() >= most {
                let text = format!("{most} calls wait for the client already");
                return Err(Error::new(ErrorKind::Usage, text));
            }
            queue.commands.push_back(command);
            queue.closed = is_last;
        }
        self.signal.notify();
        Ok(())
    }

    /// Hands over the command that `make` builds around a reply, and waits for the reply.
    ///
    /// # Cancel safety
    /// The command is handed over when this is first polled; dropping the future only ignores the answer.
    pub(crate) async fn ask<T: Send + 'static>(&self, make: impl FnOnce(Reply<T>) -> C) -> Result<T> {
        let (reply, answer) = reply();
        self.send(make(reply))?;
        answer.await
    }

    /// As [`ask`](Self::ask), for the command that ends the client: whoever comes after it is told at once that the
    /// client is closed, however long the end takes.
    ///
    /// # Cancel safety
    /// As [`ask`](Self::ask).
    pub(crate) async fn ask_last<T: Send + 'static>(&self, make: impl FnOnce(Reply<T>) -> C) -> Result<T> {
        let (reply, answer) = reply();
        self.hand_over(make(reply), usize::MAX, true)?;
        answer.await
    }
}

/// A reply, and the future that yields what it is given; needs no particular runtime.
pub(crate) fn reply<T: Send + 'static>() -> (Reply<T>, impl Future<Output = Result<T>>) {
    let (sender, receiver) = oneshot::channel();
    // Nobody waits any more if the receiver is gone.
    let reply = Reply::new(move |answer| drop(sender.send(answer)));
    let closed = |_| Err(Error::new(ErrorKind::Closed, "the client was closed before it could answer"));
    (reply, async move { receiver.await.unwrap_or_else(closed) })
}

impl<C> fmt::Debug for Mailbox<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

/// The driver's end of a [`Mailbox`].
pub(crate) struct MailboxFeed<C>(Arc<Shared<C>>);

impl<C: Send> Feed for MailboxFeed<C> {
    type Command = C;

    fn poll(&mut self, _now: Instant, emit: &mut dyn FnMut(C)) -> Option<Instant> {
        let commands = std::mem::take(&mut lock(&self.0.queue).commands);
        commands.into_iter().for_each(emit);
        None
    }
}

impl<C> Drop for MailboxFeed<C> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.closed = true;
        let commands = std::mem::take(&mut queue.commands);
        drop(queue);
        // Their replies say that the client was closed.
        drop(commands);
    }
}

/// A panic elsewhere does not make what the mutex guards wrong: it is only ever replaced whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Poll, Wake};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_burst_wakes_a_sleeping_driver_once_and_an_awake_one_not_at_all() {
        let (signal, count) = (Signal::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let context = Context::from_waker(&waker);
        signal.awake(&context);
        signal.notify();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        assert!(!signal.sleep(), "it was notified while awake");
        signal.awake(&context);
        assert!(signal.sleep());
        signal.notify();
        signal.notify();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn behind_the_last_command_nothing_is_taken() {
        let (mailbox, mut feed) = Mailbox::new(Arc::new(Signal::default()));
        mailbox.send("first").unwrap();
        let mut last = pin!(mailbox.ask_last(|_: Reply<()>| "last"));
        let _ = last.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(mailbox.send("late").unwrap_err().kind(), ErrorKind::Closed);
        let again = pin!(mailbox.ask_last(|_: Reply<()>| "last again"));
        let again = again.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(again, Poll::Ready(Err(error)) if error.kind() == ErrorKind::Closed));
        let mut taken = Vec::new();
        feed.poll(crate::net::driver::now(), &mut |command| taken.push(command));
        assert_eq!(taken, ["first", "last"]);
    }

    #[test]
    fn what_the_application_has_done_is_taken_where_no_more_can_be_asked() {
        let (mailbox, mut feed) = Mailbox::new(Arc::new(Signal::default()));
        (0..COMMANDS_MAX).for_each(|_| mailbox.send("asked").unwrap());
        assert_eq!(mailbox.send("asked").unwrap_err().kind(), ErrorKind::Usage);
        (0..COMMANDS_MAX).for_each(|_| mailbox.tell("done").unwrap());
        assert_eq!(mailbox.tell("done").unwrap_err().kind(), ErrorKind::Usage);
        let mut last = pin!(mailbox.ask_last(|_: Reply<()>| "last"));
        let _ = last.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let mut newest = "";
        feed.poll(crate::net::driver::now(), &mut |command| newest = command);
        assert_eq!(newest, "last");
    }

    #[test]
    fn commands_of_a_driver_that_ended_are_answered_closed() {
        let (mailbox, feed) = Mailbox::new(Arc::new(Signal::default()));
        let (first, answers) = std::sync::mpsc::channel();
        mailbox.send(Reply::new(move |answer: Result<()>| first.send(answer).unwrap())).unwrap();
        drop(feed);
        assert_eq!(answers.recv().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        let late = mailbox.send(Reply::new(|_| ())).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Closed);
    }
}
