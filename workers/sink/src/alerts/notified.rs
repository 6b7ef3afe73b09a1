//! Who was told what: one message when an alert is raised, one when it ends, however many records say so. Pure.

use std::collections::{HashMap, VecDeque};

use herd_spec::wire::{AlertId, AlertState};

/// Alerts remembered: older ones are forgotten, and would be told again if a record of them came.
pub(crate) const REMEMBERED: usize = 20_000;

/// What was told of an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// That it goes on.
    Raised,
    /// That it is over.
    Ended,
}

impl Told {
    /// What a record of an alert changes, and whether that is worth a message.
    pub(crate) fn after(self, state: AlertState) -> (Self, bool) {
        match (self, state) {
            (Self::Nothing, AlertState::Early | AlertState::Firing) => (Self::Raised, true),
            // Told by a run before this one.
            (Self::Nothing, AlertState::Resolved) => (Self::Ended, true),
            // Nobody knew of it.
            (Self::Nothing, AlertState::Withdrawn) => (Self::Ended, false),
            (Self::Raised, AlertState::Resolved | AlertState::Withdrawn) => (Self::Ended, true),
            (known, _) => (known, false),
        }
    }
}

/// A bounded memory of what was told.
#[derive(Debug, Default)]
pub(crate) struct Notified {
    told: HashMap<AlertId, Told>,
    /// Oldest first; each id once.
    order: VecDeque<AlertId>,
}

impl Notified {
    pub(crate) fn told(&self, id: &AlertId) -> Told {
        self.told.get(id).copied().unwrap_or_default()
    }

    pub(crate) fn remember(&mut self, id: AlertId, told: Told) {
        if self.told.insert(id.clone(), told).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.told.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AlertState::{Early, Firing, Resolved, Withdrawn};
    use rstest::rstest;

    #[rstest]
    #[case::early_then_firing_is_one_message(&[Early, Early, Firing], &[Early])]
    #[case::a_whole_life(&[Early, Firing, Resolved], &[Early, Resolved])]
    #[case::firing_without_early(&[Firing, Resolved], &[Firing, Resolved])]
    #[case::replayed(&[Early, Firing, Resolved, Early, Firing, Resolved], &[Early, Resolved])]
    #[case::out_of_order(&[Resolved, Early, Firing], &[Resolved])]
    #[case::brought_up_to_date_while_it_lasts(&[Early, Firing, Firing, Firing, Resolved], &[Early, Resolved])]
    #[case::withdrawn_after_it_was_told(&[Early, Withdrawn, Early], &[Early, Withdrawn])]
    #[case::withdrawn_before_anyone_knew(&[Withdrawn, Early], &[])]
    fn tells_the_beginning_and_the_end_of_an_alert_once(
        #[case] records: &[AlertState],
        #[case] messages: &[AlertState],
    ) {
        let mut told = Told::Nothing;
        let mut heard = Vec::new();
        for state in records {
            let (next, message) = told.after(*state);
            told = next;
            if message {
                heard.push(*state);
            }
        }
        assert_eq!(heard, messages);
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest() {
        let mut memory = Notified::default();
        let id = |n: usize| AlertId(n.to_string());
        for n in 0..REMEMBERED + 10 {
            memory.remember(id(n), Told::Raised);
            memory.remember(id(n), Told::Ended);
        }
        assert_eq!((memory.told.len(), memory.order.len()), (REMEMBERED, REMEMBERED));
        assert_eq!(memory.told(&id(9)), Told::Nothing);
        assert_eq!(memory.told(&id(10)), Told::Ended);
    }
}
