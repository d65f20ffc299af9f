from harken.api import (
    DPO as DPO,
)
from harken.api import (
    PPO as PPO,
)
from harken.api import (
    SFT as SFT,
)
from harken.api import (
    DPOConfig as DPOConfig,
)
from harken.api import (
    LoadedPolicy as LoadedPolicy,
)
from harken.api import (
    LoadedRewardModel as LoadedRewardModel,
)
from harken.api import (
    Message as Message,
)
from harken.api import (
    OnlineDPO as OnlineDPO,
)
from harken.api import (
    OnlineDPOConfig as OnlineDPOConfig,
)
from harken.api import (
    PPOConfig as PPOConfig,
)
from harken.api import (
    Prompt as Prompt,
)
from harken.api import (
    RewardConfig as RewardConfig,
)
from harken.api import (
    RewardModelTraining as RewardModelTraining,
)
from harken.api import (
    Rollout as Rollout,
)
from harken.api import (
    SFTConfig as SFTConfig,
)
from harken.api import (
    UserError as UserError,
)
from harken.api import (
    compare as compare,
)
from harken.api import (
    evaluate as evaluate,
)
from harken.api import (
    load_policy as load_policy,
)
from harken.api import (
    load_reward_model as load_reward_model,
)

__version__: str
__all__: list[str]
