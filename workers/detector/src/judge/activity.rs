//! What a metric's detectors do, as metrics of the stage tell it: how many keys they know, and how unusual a window must be.

/// What was noted of a metric since it was last asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activity {
    /// Events in closed windows of keys that had a baseline before.
    pub known_events: u64,
    /// Events in closed windows of keys that had none.
    pub new_events: u64,
    /// Of each detector of the metric, in their order.
    pub detectors: Vec<DetectorActivity>,
}

/// Of one detector.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DetectorActivity {
    /// The score from which on a window of a key alerts now; none while the detector is warming up, and for algorithms that keep to no
    /// budget.
    pub threshold: Option<f64>,
    /// Keys with events in the newest closed window that it could not judge yet.
    pub warming_up: u64,
}

impl Activity {
    pub(super) fn of(detectors: usize) -> Self {
        Self { detectors: vec![DetectorActivity::default(); detectors], ..Self::default() }
    }

    /// Begins a window.
    pub(super) fn begin_window(&mut self) {
        self.detectors.iter_mut().for_each(|detector| detector.warming_up = 0);
    }

    /// Notes events of a key in a window that closes.
    pub(super) fn saw(&mut self, is_new: bool, events: u64) {
        *(if is_new { &mut self.new_events } else { &mut self.known_events }) += events;
    }

    /// Notes that a detector could not judge a key.
    pub(super) fn not_judged(&mut self, detector: usize) {
        if let Some(detector) = self.detectors.get_mut(detector) {
            detector.warming_up += 1;
        }
    }

    /// What was noted; events are counted anew from here.
    pub(super) fn take(&mut self) -> Self {
        let taken = self.clone();
        (self.known_events, self.new_events) = (0, 0);
        taken
    }
}
