//! The budgets for looks at known tags, one for each source host, shared by all configurations of a process.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::clock::Clock;
use crate::locked::Locked;
use crate::plan::{SweepBudget, SweepOwner};

/// The budgets of all source hosts.
#[derive(Clone, Default)]
pub(crate) struct Sweeps(Arc<Budgets>);

/// The budgets by host.
type Budgets = Locked<HashMap<String, HostSweeps>>;

/// The budget of one host.
struct HostSweeps {
    budget: SweepBudget<oneshot::Sender<()>>,
    /// Serves the looks that wait, until none does; ended with the budgets.
    server: Option<AbortOnDropHandle<()>>,
}

/// One user of the budget of its source host.
#[derive(Clone)]
pub(super) struct SweepShare {
    /// All budgets.
    pub(super) sweeps: Sweeps,
    /// The configuration and its source Registry.
    pub(super) owner: SweepOwner,
    /// The source host.
    pub(super) host: String,
    /// The looks a second that the Registry sets; 0 for any number.
    pub(super) rate: u32,
    /// The time.
    pub(super) clock: Clock,
}

impl SweepShare {
    /// Takes one look at a tag at once; false if the budget is spent.
    pub(super) fn take(&self) -> bool {
        let now = self.clock.now();
        self.rate == 0 || self.sweeps.change(self, |sweeps| sweeps.budget.take(&self.owner, self.rate, now))
    }

    /// Waits until the budget allows a look at a tag. Dropping the future ends the wait.
    pub(super) async fn wait(&self) {
        if self.take() {
            return;
        }
        let (sender, receiver) = oneshot::channel();
        let now = self.clock.now();
        self.sweeps.change(self, |sweeps| {
            sweeps.budget.wait(&self.owner, self.rate, sender, now);
            if !sweeps.is_served() {
                let serve = serve(Arc::downgrade(&self.sweeps.0), self.host.clone(), self.clock.clone());
                sweeps.server = Some(AbortOnDropHandle::new(tokio::spawn(serve)));
            }
        });
        // The sender stays in the budget until it is this look's turn.
        let _ = receiver.await;
    }
}

impl Sweeps {
    fn change<T>(&self, share: &SweepShare, change: impl FnOnce(&mut HostSweeps) -> T) -> T {
        let (mut hosts, now) = (self.0.lock(), share.clock.now());
        if !hosts.contains_key(&share.host) {
            hosts.retain(|_, sweeps| sweeps.is_served() || !sweeps.budget.is_unused(now));
            let budget = SweepBudget::new(share.rate, now);
            hosts.insert(share.host.clone(), HostSweeps { budget, server: None });
        }
        change(hosts.get_mut(&share.host).expect("it was inserted"))
    }

    /// Serves the looks whose turn it is; returns the time until the next one, if any waits.
    fn serve_now(&self, host: &str, clock: &Clock) -> Option<Duration> {
        let (mut hosts, now) = (self.0.lock(), clock.now());
        let sweeps = hosts.get_mut(host)?;
        while let Some(sender) = sweeps.budget.next(|sender| !sender.is_closed(), now) {
            let _ = sender.send(()); // A look that was dropped just now has spent what it took.
        }
        let next = sweeps.budget.ready_at();
        if next.is_none() {
            sweeps.server = None; // It is what runs here, and ends.
        }
        next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default())
    }
}

impl HostSweeps {
    /// Returns true unless a look that waits needs a new task.
    fn is_served(&self) -> bool {
        self.server.as_ref().is_some_and(|server| !server.is_finished())
    }
}

/// Serves the looks at tags of `host` that wait, until none does, or the budgets are gone.
async fn serve(budgets: Weak<Budgets>, host: String, clock: Clock) {
    while let Some(pause) = budgets.upgrade().and_then(|budgets| Sweeps(budgets).serve_now(&host, &clock)) {
        tokio::time::sleep(pause.max(MIN_PAUSE)).await;
    }
}

/// Timers are not more exact.
const MIN_PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::FutureExt;

    use super::*;
    use crate::plan::NamespacedName;

    fn share(rate: u32) -> SweepShare {
        let registry = NamespacedName { namespace: "a".to_owned(), name: "hub".to_owned() };
        let owner = SweepOwner { registry, configuration: "c".to_owned() };
        SweepShare { sweeps: Sweeps::default(), owner, host: "hub.example".to_owned(), rate, clock: Clock::default() }
    }

    #[tokio::test]
    async fn looks_wait_for_their_turn_once_the_budget_is_spent() {
        let (share, began) = (share(50), Instant::now());
        while share.take() {}
        for _ in 0..10 {
            share.wait().await;
        }
        assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
        let other = SweepShare { host: "other.example".to_owned(), ..share };
        assert!(other.take(), "each host has its own budget");
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_leaves_its_turn_to_others() {
        let share = share(1);
        while share.take() {}
        (0..100).for_each(|_| assert!(share.wait().now_or_never().is_none()));
        tokio::time::timeout(Duration::from_secs(60), share.wait()).await.expect("100 s were 1 s");
    }

    #[tokio::test]
    async fn a_rate_of_zero_is_any_number() {
        let share = share(0);
        assert!((0..10_000).all(|_| share.take()));
        share.wait().now_or_never().expect("it does not wait");
    }
}
