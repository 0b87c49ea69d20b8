//! The step machine: a flow is a future, polled by hand, one host question at a time (ADR 0002).

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{
    command::{Command, Outcome},
    error::Error,
    port::Port,
    setting::Setting,
    step::{Answer, AnswerKind, Ask, Event, HostError, Step},
};

type Flow = Pin<Box<dyn Future<Output = Result<Outcome, Error>> + Send>>;

/// The one place where a flow and its host meet: at most one question and one answer.
#[derive(Default)]
pub(crate) struct Exchange {
    question: Option<Ask>,
    answer: Option<Answer>,
}

/// Never poisoned in a way that matters: nothing in here panics between two consistent states.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts one question to the host and waits for the answer.
pub(crate) struct Asking<'a> {
    exchange: &'a Mutex<Exchange>,
    ask: Option<Ask>,
}

impl<'a> Asking<'a> {
    pub(crate) const fn new(exchange: &'a Mutex<Exchange>, ask: Ask) -> Self {
        Self { exchange, ask: Some(ask) }
    }
}

impl Future for Asking<'_> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        let mut exchange = lock(self.exchange);
        if let Some(ask) = self.ask.take() {
            exchange.question = Some(ask);
            return Poll::Pending;
        }
        exchange.answer.take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// One running command. Dropping it is like a crash of the app: nothing is lost, and `resume()` finishes or discards
/// what was left.
pub struct Machine {
    flow: Option<Flow>,
    exchange: Arc<Mutex<Exchange>>,
    number: u64,
    expects: Option<AnswerKind>,
}

impl Machine {
    /// Starts a command; the step says what the host is asked first.
    #[must_use]
    pub fn start(setting: &Arc<Setting>, command: Command) -> (Self, Step) {
        let exchange = Arc::new(Mutex::new(Exchange::default()));
        let port = Port::new(setting.clone(), exchange.clone());
        Self::run(exchange, Box::pin(crate::command::run(port, command)))
    }

    fn run(exchange: Arc<Mutex<Exchange>>, flow: Flow) -> (Self, Step) {
        let mut machine = Self { flow: Some(flow), exchange, number: 0, expects: None };
        let step = machine.poll();
        (machine, step)
    }

    /// Goes on with the host's answer.
    ///
    /// # Errors
    /// [`HostError`] for an answer to another question, of another kind, or after the end. The machine has not moved
    /// then: the right answer may still be given.
    pub fn resume(&mut self, event: Event) -> Result<Step, HostError> {
        let (Some(_), Some(expected)) = (&self.flow, self.expects) else {
            return Err(HostError::AfterEnd);
        };
        if event.number != self.number {
            return Err(HostError::OtherQuestion { waiting: self.number, answered: event.number });
        }
        let got = event.answer.kind();
        if got != expected {
            return Err(HostError::WrongKind { expected, got });
        }
        lock(&self.exchange).answer = Some(event.answer);
        Ok(self.poll())
    }

    fn poll(&mut self) -> Step {
        let Some(flow) = &mut self.flow else {
            return Step::Failed(Error::Internal);
        };
        let polled = flow.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(result) = polled {
            self.flow = None;
            self.expects = None;
            return result.map_or_else(Step::Failed, |outcome| Step::Done(Box::new(outcome)));
        }
        // A flow waits for nothing but its host; one that returns `Pending` without a question is a bug of ours.
        let Some(ask) = lock(&self.exchange).question.take() else {
            self.flow = None;
            self.expects = None;
            return Step::Failed(Error::Internal);
        };
        self.number += 1;
        self.expects = Some(ask.expects());
        Step::Ask { number: self.number, ask }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn machine(
        flow: impl Future<Output = Result<Outcome, Error>> + Send + 'static,
        exchange: &Arc<Mutex<Exchange>>,
    ) -> (Machine, Step) {
        Machine::run(exchange.clone(), Box::pin(flow))
    }

    fn two_questions() -> (Machine, Step) {
        let exchange = Arc::new(Mutex::new(Exchange::default()));
        let inner = exchange.clone();
        machine(
            async move {
                let Answer::Now(first) = Asking::new(&inner, Ask::Now).await else { return Err(Error::Internal) };
                let Answer::Now(second) = Asking::new(&inner, Ask::Now).await else { return Err(Error::Internal) };
                Ok(Outcome::Flag(first == 1 && second == 2))
            },
            &exchange,
        )
    }

    fn now(number: u64, ms: u64) -> Event {
        Event { number, answer: Answer::Now(ms) }
    }

    #[test]
    fn answers_are_taken_in_order_and_the_end_is_the_end() {
        let (mut machine, step) = two_questions();
        assert!(matches!(step, Step::Ask { number: 1, ask: Ask::Now }));
        assert!(matches!(machine.resume(now(1, 1)).unwrap(), Step::Ask { number: 2, ask: Ask::Now }));
        let Step::Done(outcome) = machine.resume(now(2, 2)).unwrap() else { panic!("done") };
        assert!(matches!(*outcome, Outcome::Flag(true)));
        assert_eq!(machine.resume(now(2, 2)).unwrap_err(), HostError::AfterEnd);
        assert_eq!(machine.resume(now(3, 2)).unwrap_err(), HostError::AfterEnd);
    }

    #[test]
    fn a_second_answer_to_one_question_is_refused_and_changes_nothing() {
        let (mut machine, _) = two_questions();
        machine.resume(now(1, 1)).unwrap();
        let refused = machine.resume(now(1, 7)).unwrap_err();
        assert_eq!(refused, HostError::OtherQuestion { waiting: 2, answered: 1 });
        let Step::Done(outcome) = machine.resume(now(2, 2)).unwrap() else { panic!("done") };
        assert!(matches!(*outcome, Outcome::Flag(true)), "the second answer was not used");
    }

    #[test]
    fn an_answer_of_another_kind_is_refused_and_the_right_one_still_counts() {
        let (mut machine, _) = two_questions();
        let refused = machine.resume(Event { number: 1, answer: Answer::Continue }).unwrap_err();
        assert_eq!(refused, HostError::WrongKind { expected: AnswerKind::Now, got: AnswerKind::Continue });
        machine.resume(now(1, 1)).unwrap();
        assert!(matches!(machine.resume(now(2, 2)).unwrap(), Step::Done(_)));
    }

    #[test]
    fn dropping_a_machine_drops_its_flow() {
        struct Witness(Arc<Mutex<bool>>);
        impl Drop for Witness {
            fn drop(&mut self) {
                *lock(&self.0) = true;
            }
        }
        let dropped = Arc::new(Mutex::new(false));
        let (exchange, witness) = (Arc::new(Mutex::new(Exchange::default())), Witness(dropped.clone()));
        let inner = exchange.clone();
        let flow = async move {
            let _witness = witness;
            Asking::new(&inner, Ask::Now).await;
            Ok(Outcome::Flag(true))
        };
        drop(machine(flow, &exchange));
        assert!(*lock(&dropped));
    }

    #[test]
    fn a_flow_that_waits_for_nothing_fails_instead_of_hanging() {
        let exchange = Arc::new(Mutex::new(Exchange::default()));
        let (mut machine, step) = machine(std::future::pending(), &exchange);
        assert!(matches!(step, Step::Failed(Error::Internal)));
        assert_eq!(machine.resume(now(0, 1)).unwrap_err(), HostError::AfterEnd);
    }
}
