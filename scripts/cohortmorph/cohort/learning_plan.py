"""What is learned of a run: what networks see, how each is applied, and what its λ is searched by."""

from dataclasses import dataclass
from typing import Any

from cohortmorph import UserError
from cohortmorph.cohort.network_plan import NetworkPlan
from cohortmorph.cohort.plan import Files, Plan


@dataclass(frozen=True, eq=False)
class LearningPlan:
    """The part of a plan that networks have to do with; rules hand over which one by its name."""

    plan: Plan

    def network(self, name: str) -> NetworkPlan:
        """Return how a network is trained and applied."""
        if name not in self.plan.networks:
            known = ", ".join(self.plan.networks) or "none"
            raise UserError(f"`networks` in the configuration does not have {name}; it has {known}.")
        return self.plan.networks[name]

    # ---- what networks see

    def grid_settings(self, grid: str, **_: str) -> dict[str, Any]:
        """Return the settings of a grid on which networks work."""
        for network in self.plan.networks.values():
            if network.grid == grid:
                return network.grid_settings
        raise UserError(f"No network of the configuration works on the grid {grid}.")

    def to_prepare(self, pair: str, **_: str) -> Files:
        """Return what an alignment's image is put on the networks' grid with."""
        return {**self._to_place(pair), "registration": self.plan.results.affine_registration(pair)}

    def to_prepare_labels(self, pair: str, **_: str) -> Files:
        """Return what an alignment's label map is put on the networks' grid with."""
        return {"labels": self.plan.labels_of(self.plan.cohort.pair(pair).moving), **self._to_place(pair)}

    def to_prepare_mask(self, pair: str, **_: str) -> Files:
        """Return what an alignment's mask is put on the networks' grid with; without one, all of the image counts."""
        return {"mask": self.plan.cohort.pair(pair).moving.mask or None, **self._to_place(pair)}

    def _to_place(self, pair: str) -> Files:
        """Return an alignment's moving image and what says where it lies in its frame."""
        of = self.plan.cohort.pair(pair)
        return {
            "image": self.plan.file_of(of.moving),
            "frame": self.plan.file_of(of.frame),
            "affine": self.plan.results.affine(pair),
        }

    def intensity_of_moving(self, pair: str, **_: str) -> dict[str, Any]:
        """Return how the intensities of an alignment's image are prepared."""
        return self.plan.intensity_of(self.plan.cohort.pair(pair).moving)

    # ---- what is made of them

    def histories(self, network: str) -> Files:
        """Return what is written down of each training of a network."""
        return {"histories": self.network(network).histories}

    def weights(self, network: str) -> list[str]:
        """Return the regularization weights λ of a network."""
        return self.network(network).weights

    @property
    def searched(self) -> list[str]:
        """What a search of λ comes to, of every network of which one can learn every λ."""
        found = [name for name, network in self.plan.networks.items() if network.may_be_conditional]
        return [self.plan.results.evaluation(f"{name}/selected_weight.json") for name in found]

    def to_search_weight(self, network: str) -> Files:
        """Return all files that the validation pairs are registered with and judged by, each once, and the network."""
        found = {path for pair in self.pairs_to_judge_by(network) for path in pair["files"].values() if path}
        of = self.network(network)
        return {"files": sorted(found), "network": of.parameters_of_conditional(of.kept_epochs[-1:])}

    def search_settings(self, network: str) -> dict[str, Any]:
        """Return what the search of λ needs to know of the network for every λ."""
        return self.network(network).search_settings

    def pairs_to_judge_by(self, network: str) -> list[dict[str, Any]]:
        """Return, for each validation pair, ``pair``, ``files`` by name ("" for none) and ``intensities``."""
        found = []
        for pair in self.plan.cohort.pairs_in("validation"):
            of = self.plan.cohort.pair(pair)
            files = {**self.plan.images(of), **self.plan.given(of), **self.network(network).views(of)}
            files = {name: path or "" for name, path in files.items()}
            found.append({"pair": pair, "files": files, "intensities": self.plan.intensities(pair)})
        return found

    def to_apply(self, network: str) -> Any:
        """Return the function pair → what a network reads of it."""
        of_network = self.network(network)

        def of(pair: str) -> Files:
            found = self.plan.cohort.pair(pair)
            return {
                "fixed": self.plan.file_of(found.fixed),
                **of_network.views(found),
                "networks": of_network.parameters,
            }

        return of
