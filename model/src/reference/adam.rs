//! The optimiser.

use crate::backend::Adam;

/// First and second moments, and the steps taken.
#[derive(Clone, Debug, Default)]
pub struct AdamState {
    m: Vec<f64>,
    v: Vec<f64>,
    steps: i32,
}

/// One step on `params`, in place. Source: arXiv:1412.6980, algorithm 1.
pub fn adam(state: &mut AdamState, params: &mut [f64], grad: &[f64], adam: Adam) {
    state.m.resize(params.len(), 0.0);
    state.v.resize(params.len(), 0.0);
    state.steps += 1;
    let (b1, b2) = (f64::from(adam.beta1), f64::from(adam.beta2));
    let (c1, c2) = (1.0 - b1.powi(state.steps), 1.0 - b2.powi(state.steps));
    for (i, (p, g)) in params.iter_mut().zip(grad).enumerate() {
        state.m[i] = b1 * state.m[i] + (1.0 - b1) * g;
        state.v[i] = b2 * state.v[i] + (1.0 - b2) * g * g;
        let step = state.m[i] / c1 / ((state.v[i] / c2).sqrt() + f64::from(adam.eps));
        *p -= f64::from(adam.learning_rate) * step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_step_is_the_learning_rate_and_a_parabola_is_solved() {
        let settings = Adam { learning_rate: 0.1, ..Adam::default() };
        let mut state = AdamState::default();
        let mut params = vec![5.0, -3.0];
        adam(&mut state, &mut params, &[0.01, -700.0], settings);
        assert!((params[0] - 4.9).abs() < 1e-6 && (params[1] + 2.9).abs() < 1e-6);
        for _ in 0..2000 {
            let grad = [2.0 * (params[0] - 1.0), 2.0 * (params[1] - 2.0)];
            adam(&mut state, &mut params, &grad, settings);
        }
        assert!((params[0] - 1.0).abs() < 1e-3 && (params[1] - 2.0).abs() < 1e-3, "{params:?}");
    }
}
