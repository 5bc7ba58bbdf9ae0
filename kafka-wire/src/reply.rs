//! How a machine answers the application, and how a thread waits for an answer. Layer 2.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::error::{Error, ErrorKind, Result};

/// Where one answer goes: a function that is called exactly once.
///
/// Dropped unanswered, it answers [`ErrorKind::Closed`], so that nobody waits for ever.
pub struct Reply<T>(Option<Box<dyn FnOnce(Result<T>) + Send>>);

impl<T> Reply<T> {
    /// Answers by calling `answer`, on the thread that runs the machine.
    pub fn new(answer: impl FnOnce(Result<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(answer)))
    }

    /// Gives the answer.
    pub fn send(mut self, answer: Result<T>) {
        if let Some(reply) = self.0.take() {
            reply(answer);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err(Error::new(ErrorKind::Closed, "the client was closed before it could answer")));
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// Runs a future to its end on this thread; it must be one that other threads wake.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = thread_waker();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

/// Wakes this thread, which is to park.
pub(crate) fn thread_waker() -> Waker {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }
    Waker::from(Arc::new(Unpark(thread::current())))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn answers_once_and_an_abandoned_reply_says_closed() {
        let (sender, answers) = mpsc::channel();
        let other = sender.clone();
        Reply::new(move |answer| sender.send(answer).unwrap()).send(Ok(5));
        drop(Reply::new(move |answer: Result<i32>| other.send(answer).unwrap()));
        assert_eq!(answers.recv().unwrap().unwrap(), 5);
        assert_eq!(answers.recv().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert!(answers.recv().is_err());
    }
}
