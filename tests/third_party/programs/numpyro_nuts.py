"""numpyro: NUTS for the eight schools with a chain on each device, then with the chains in one program; and SVI."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import effective_sample_size, gelman_rubin
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, autoguide
from numpyro.infer.reparam import LocScaleReparam

effects = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
errors = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


@numpyro.handlers.reparam(config={"theta": LocScaleReparam(0)})
def schools(errors, effects=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(errors)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("effect", dist.Normal(theta, errors), obs=effects)


def sampled(method, chains, progress_bar):
    mcmc = MCMC(
        NUTS(schools),
        num_warmup=40,
        num_samples=40,
        num_chains=chains,
        chain_method=method,
        progress_bar=progress_bar,
    )
    mcmc.run(jax.random.key(0), errors, effects, extra_fields=("num_steps", "diverging"))
    grouped = {name: np.asarray(x) for name, x in mcmc.get_samples(group_by_chain=True).items()}
    draws = Predictive(schools, mcmc.get_samples())(jax.random.key(1), errors)["effect"]
    return {
        "means": {name: x.mean(axis=(0, 1)).tolist() for name, x in grouped.items()},
        "first": {name: x[:, 0].tolist() for name, x in grouped.items()},
        "size": float(effective_sample_size(grouped["mu"])),
        "between": float(gelman_rubin(grouped["mu"])),
        "steps": int(mcmc.get_extra_fields()["num_steps"].sum()),
        "diverging": int(mcmc.get_extra_fields()["diverging"].sum()),
        "predicted": np.asarray(draws).mean(axis=0).tolist(),
    }


def fitted():
    guide = autoguide.AutoNormal(schools)
    svi = SVI(schools, guide, numpyro.optim.Adam(0.05), Trace_ELBO())
    result = svi.run(jax.random.key(2), 200, errors, effects, progress_bar=False)
    return {"loss": float(jnp.mean(result.losses[-50:])), "median": float(guide.median(result.params)["mu"])}


found = {
    "parallel": sampled("parallel", len(jax.devices()), progress_bar=True),
    "vectorized": sampled("vectorized", 4, progress_bar=False),
    "svi": fitted(),
}
print(json.dumps(found))
