"""The entry point, which every start of `tensorboard` imports: so it is light, and nothing here can stop the start.

An exception on import of this module, or out of `fix_flags`, would end `tensorboard` for the user. So this file
imports one small module of TensorBoard's, and the rest of the plugin only inside `load`, behind a `try`.
"""

from tensorboard.plugins import base_plugin

PLUGIN_NAME = "lbgap"  # as in metadata, which is not imported before `load`


class LbgapLoader(base_plugin.TBLoader):
    """Makes the plugin, or says in one line why it cannot."""

    def fix_flags(self, flags):
        """Keep every point: by default TensorBoard keeps 100 tensors of a tag (10 without the fast loader), at random."""
        samples = dict(getattr(flags, "samples_per_plugin", None) or {})
        samples.setdefault(PLUGIN_NAME, 0)  # 0 stands for all
        flags.samples_per_plugin = samples

    def load(self, context):
        """Return the plugin, or None if it cannot be made."""
        try:
            from tb_plugin import plugin

            return plugin.LbgapPlugin(context)
        except Exception as error:
            from tensorboard.util import tb_logging

            tb_logging.get_logger().warning(
                "The SHARPNESS tab is not available: %s: %s", type(error).__name__, error
            )
            return None
