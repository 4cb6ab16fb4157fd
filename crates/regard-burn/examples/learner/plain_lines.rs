//! What burn's training says where there is no terminal to draw on.

use std::collections::BTreeMap;

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};

/// One line for each pass over a split: its metrics at the end.
#[derive(Default)]
pub(crate) struct PlainLines {
    epoch: usize,
    split: String,
    /// Names by a metric's id, and what each says now.
    names: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
}

impl PlainLines {
    fn keep(&mut self, state: MetricState) {
        let (MetricState::Generic(entry) | MetricState::Numeric(entry, _)) = state;
        self.values.insert(format!("{:?}", entry.metric_id), entry.serialized_entry.formatted);
    }
}

impl MetricsRendererTraining for PlainLines {
    fn update_train(&mut self, state: MetricState) {
        self.keep(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.keep(state);
    }
}

impl TrainingProgressLogger for PlainLines {
    fn start(&mut self, _epochs: usize, first_epoch: usize, _items: Option<usize>, _label: Option<&str>) {
        self.epoch = first_epoch;
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.epoch = epoch + 1;
    }

    fn start_split(&mut self, split: &str, _items: usize) {
        self.split = split.to_string();
        self.values.clear();
    }

    fn update_split(&mut self, _items: usize) {}

    fn end_split(&mut self) {
        let values = self.values.iter().map(|(id, value)| format!("{} ({value})", self.names[id]));
        println!("epoch {} {}: {}", self.epoch, self.split, values.collect::<Vec<_>>().join(", "));
    }

    fn end(&mut self) {}

    fn log_event_training(&mut self, event: String) {
        println!("{event}");
    }
}

impl MetricsRendererEvaluation for PlainLines {
    fn update_test(&mut self, _name: EvaluationName, state: MetricState) {
        self.keep(state);
    }
}

/// The example evaluates nothing after training.
impl EvaluationProgressLogger for PlainLines {
    fn start_global_progress(&mut self, _tests: usize) {}
    fn start_test(&mut self, _name: &str, _items: usize) {}
    fn update_test_progress(&mut self, _items: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRenderer for PlainLines {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.insert(format!("{:?}", definition.metric_id), definition.name.to_string());
    }
}
