//! Patches to judge by: never trained on, and what is known of each.

use std::collections::VecDeque;

use hone_model::Weights;
use hone_model::backend::{BackendError, TrainBackend};

use crate::buffer::Pair;
use crate::gain::{Comparison, error};

/// One patch and the error that each contender makes on it.
struct Exhibit {
    pair: Pair,
    base_image: f64,
    origin: f64,
    published: f64,
}

/// Holds them, oldest first; the oldest gives way.
pub struct HeldOut {
    max: usize,
    exhibits: VecDeque<Exhibit>,
    /// A network whose last layer is zero: the base image alone.
    base_image: Weights,
    origin: Weights,
}

impl HeldOut {
    pub fn new(origin: Weights, max: usize) -> Self {
        Self { max, exhibits: VecDeque::new(), base_image: Weights::zeros(origin.arch()), origin }
    }

    pub fn len(&self) -> usize {
        self.exhibits.len()
    }

    pub fn add(
        &mut self,
        backend: &mut dyn TrainBackend,
        pair: Pair,
        published: &Weights,
    ) -> Result<(), BackendError> {
        let exhibit = Exhibit {
            base_image: error(backend, &self.base_image, &pair)?,
            origin: error(backend, &self.origin, &pair)?,
            published: error(backend, published, &pair)?,
            pair,
        };
        if self.exhibits.len() == self.max {
            self.exhibits.pop_front();
        }
        self.exhibits.push_back(exhibit);
        Ok(())
    }

    /// Measures what is published from now on.
    pub fn publish(
        &mut self,
        backend: &mut dyn TrainBackend,
        published: &Weights,
    ) -> Result<(), BackendError> {
        for exhibit in &mut self.exhibits {
            exhibit.published = error(backend, published, &exhibit.pair)?;
        }
        Ok(())
    }

    pub fn clear(&mut self) {
        self.exhibits.clear();
    }

    /// What is published against the base image.
    pub fn published_over_base_image(&self) -> Comparison {
        self.exhibits.iter().map(|exhibit| (exhibit.published, exhibit.base_image)).collect()
    }

    /// What is published against the origin.
    pub fn published_over_origin(&self) -> Comparison {
        self.exhibits.iter().map(|exhibit| (exhibit.published, exhibit.origin)).collect()
    }

    /// The origin against the base image.
    pub fn origin_over_base_image(&self) -> Comparison {
        self.exhibits.iter().map(|exhibit| (exhibit.origin, exhibit.base_image)).collect()
    }

    /// `candidate` against the base image and against what is published.
    pub fn candidate(
        &self,
        backend: &mut dyn TrainBackend,
        candidate: &Weights,
    ) -> Result<(Comparison, Comparison), BackendError> {
        let errors = self.exhibits.iter().map(|exhibit| error(backend, candidate, &exhibit.pair));
        let errors: Vec<f64> = errors.collect::<Result<_, _>>()?;
        let over = |old: fn(&Exhibit) -> f64| {
            errors.iter().copied().zip(self.exhibits.iter().map(old)).collect::<Comparison>()
        };
        Ok((over(|exhibit| exhibit.base_image), over(|exhibit| exhibit.published)))
    }
}
