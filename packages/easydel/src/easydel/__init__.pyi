from easydel_models import AutoEasyDeLModelForCausalLM as AutoEasyDeLModelForCausalLM
from easydel_models import AutoEasyDeLModelForSequenceClassification as AutoEasyDeLModelForSequenceClassification
from easydel_models import LoraConfig as LoraConfig
from easydel_trainers import BCOConfig as BCOConfig
from easydel_trainers import BCOTrainer as BCOTrainer
from easydel_trainers import CPOConfig as CPOConfig
from easydel_trainers import CPOTrainer as CPOTrainer
from easydel_trainers import DPOConfig as DPOConfig
from easydel_trainers import DPOTrainer as DPOTrainer
from easydel_trainers import GRPOConfig as GRPOConfig
from easydel_trainers import GRPOTrainer as GRPOTrainer
from easydel_trainers import KTOConfig as KTOConfig
from easydel_trainers import KTOTrainer as KTOTrainer
from easydel_trainers import ORPOConfig as ORPOConfig
from easydel_trainers import ORPOTrainer as ORPOTrainer
from easydel_trainers import RewardConfig as RewardConfig
from easydel_trainers import RewardTrainer as RewardTrainer
from easydel_trainers import SFTConfig as SFTConfig
from easydel_trainers import SFTTrainer as SFTTrainer

__version__: str
