//! What each head attends to, summed up while the forward call passes by; and, in a second pass, what each key receives.
//!
//! | file | what |
//! |---|---|
//! | `layout.rs`, `sums.rs` | a row's numbers, and what a block adds to them |
//! | `watch.rs`, `rows.rs` | one worker's view; all rows, split ones merged, finished and written |
//! | `tokens.rs`, `thumbnail.rs`, `visible.rs` | equal tokens; block sums; who may attend to what |
//! | `received.rs` | the second pass |
//! | `shared.rs` | arrays that several threads write rows of |

mod layout;
mod received;
mod rows;
mod shared;
mod sums;
mod thumbnail;
mod tokens;
mod visible;
mod watch;

use self::received::ReceivedCall;
use self::rows::RowObserver;
use self::visible::count_visible;
use super::rows::RowSink;
use super::run::ForwardCall;
use super::scratch::{Workspace, filled};
use crate::error::AttentionError;
use crate::shape::AttentionShape;
use crate::statistics::{AttentionStatistics, StatisticsRequest};

/// A checked forward call with a checked request.
pub(crate) struct StatisticsCall<'a> {
    pub(crate) forward: ForwardCall<'a>,
    pub(crate) request: &'a StatisticsRequest<'a>,
}

impl StatisticsCall<'_> {
    pub(crate) fn shape(&self) -> &AttentionShape {
        &self.forward.shape
    }

    /// Room for the results.
    pub(crate) fn allocate(&self) -> Result<AttentionStatistics, AttentionError> {
        AttentionStatistics::zeroed(self.shape(), self.request, self.forward.config.sinks.is_some())
    }

    /// Bytes of scratch that the call needs, results not among them.
    pub(crate) fn scratch_bytes(&self) -> Result<usize, AttentionError> {
        if self.shape().num_rows() == 0 {
            return Ok(0);
        }
        let sizes = self.forward.observed_sizes()?;
        let mut bytes = RowObserver::bytes(self.shape(), self.request, &sizes);
        if self.request.received {
            let bases = self.shape().num_rows().saturating_mul(size_of::<[f32; 2]>());
            bytes = bytes.saturating_add(bases).saturating_add(ReceivedCall::bytes(&self.forward)?);
        }
        Ok(self.forward.scratch_bytes()?.saturating_add(bytes))
    }

    /// Runs the call, which writes outputs and log-sum-exp to `sink`.
    pub(crate) fn run(
        &self,
        sink: &dyn RowSink,
        statistics: &mut AttentionStatistics,
        workspace: &mut Workspace,
    ) -> Result<(), AttentionError> {
        let (shape, config) = (self.shape(), &self.forward.config);
        if shape.num_rows() == 0 {
            return Ok(());
        }
        let sizes = self.forward.observed_sizes()?;
        let num_bases = if self.request.received { shape.num_rows() } else { 0 };
        let mut bases = filled(num_bases, [0.0f32; 2])?;
        let mut received = std::mem::take(&mut statistics.received);
        let mut thumbnail = std::mem::take(&mut statistics.thumbnail);
        let second = if self.request.received { Some(ReceivedCall::new(&self.forward)?) } else { None };
        let observer = RowObserver::new((shape, config), self.request, &sizes, (statistics, &mut bases))?;
        self.forward.run_observed(sink, workspace, &observer)?;
        if let Some(sums) = &observer.thumbnail {
            sums.write(&mut thumbnail);
        }
        drop(observer);
        if let Some(mut second) = second {
            second.run(&bases, &mut received);
        }
        (statistics.received, statistics.thumbnail) = (received, thumbnail);
        count_visible((shape, config), (self.forward.isa, self.forward.num_workers), statistics);
        Ok(())
    }
}
