"""Random sets of policies over a few VMs on all kinds of networks, for hypothesis and for live labs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from netctl.model.policy import selector_text

TIERS = ("web", "app", "db")
ENVS = ("prod", "dev")

SERVICES = ("tcp/8080", "tcp/8000-8081", "udp/53", "tcp", "icmp", "icmp/8", "any", "front", "udp/5000-5001")
SERVICE_GROUPS = {"front": ["tcp/443", "tcp/8080"]}
ADDRESS_GROUPS = {"some": ["10.10.0.0/28", "10.20.0.12"], "far": ["198.51.100.0/24"]}


def _category() -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.sampled_from(TIERS).map(lambda tier: {"Tier": tier}),
        st.sampled_from(ENVS).map(lambda env: {"Env": env}),
        st.tuples(st.sampled_from(TIERS), st.sampled_from(ENVS)).map(
            lambda pair: {"Tier": pair[0], "Env": pair[1]}
        ),
        st.lists(st.sampled_from(TIERS), min_size=1, max_size=2, unique=True).map(
            lambda tiers: {"Tier": tiers}
        ),
    )


def selectors() -> st.SearchStrategy[dict[str, Any]]:
    """Selectors of every form."""
    return st.one_of(
        _category(),
        _category().map(lambda inner: {"not": inner}),
        st.lists(_category(), min_size=1, max_size=2).map(lambda parts: {"any": parts}),
        st.lists(_category(), min_size=1, max_size=2).map(lambda parts: {"all": parts}),
    )


@st.composite
def policy_sets(draw: st.DrawFn, peers: tuple[str, ...], vpcs: tuple[str, ...]) -> dict[str, Any]:
    """Up to five policies; `peers` are what rules may name besides categories."""
    services = st.lists(st.sampled_from(SERVICES), max_size=2, unique=True)

    def rules(key: str) -> st.SearchStrategy[list[dict[str, Any]]]:
        rule = st.fixed_dictionaries(
            {key: st.one_of(selectors(), st.sampled_from(peers)), "services": services},
            optional={"action": st.sampled_from(("allow", "reject"))},
        )
        return st.lists(rule, max_size=3)

    scopes = st.one_of(
        st.just("all"),
        st.just("all"),
        st.just("vlan"),
        *([st.lists(st.sampled_from(vpcs), min_size=1, max_size=2, unique=True)] if vpcs else []),
    )
    modes = st.sampled_from(("enforce", "enforce", "enforce", "monitor", "save"))
    intra = st.one_of(
        st.sampled_from(("allow", "deny")),
        st.lists(st.sampled_from(SERVICES), min_size=1, max_size=2, unique=True).map(
            lambda found: {"services": found}
        ),
    )
    isolation = st.fixed_dictionaries(
        {
            "type": st.just("isolation"),
            "mode": modes,
            "scope": scopes,
            "between": st.lists(selectors(), min_size=2, max_size=2, unique_by=selector_text),
        }
    )
    secures = st.fixed_dictionaries(
        {
            "type": st.sampled_from(("application", "application", "quarantine", "shared-service")),
            "mode": modes,
            "scope": scopes,
            "secured": selectors(),
        },
        optional={
            "inbound": rules("from"),
            "outbound": rules("to"),
            "intra_group": intra,
            "hit_log": st.booleans(),
        },
    )
    found = draw(st.lists(st.one_of(secures, secures, isolation), max_size=5))
    return {f"p{number}": policy for number, policy in enumerate(found)}


def categories() -> st.SearchStrategy[dict[str, str]]:
    """Categories of a VM."""
    return st.fixed_dictionaries({}, optional={"Tier": st.sampled_from(TIERS), "Env": st.sampled_from(ENVS)})
