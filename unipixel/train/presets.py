"""Nano: the numbers of the small UniPixel that fits into the repository."""

from __future__ import annotations

from typing import Any

from unipixel.config import UniPixelConfig

NANO_SIDE = 224  # the vision tower's input: 8 x 8 tokens of 28 pixels, four whole attention windows
NANO_SAM_SIDE = 256


_SWITCHES: dict[str, Any] = {
    "num_maskmem": 7,
    "sigmoid_scale_for_mem_enc": 20.0,
    "sigmoid_bias_for_mem_enc": -10.0,
    "use_mask_input_as_output_without_sam": True,
    "directly_add_no_mem_embed": True,
    "no_obj_embed_spatial": True,
    "use_high_res_features_in_sam": True,
    "multimask_output_in_sam": True,
    "iou_prediction_use_sigmoid": True,
    "use_obj_ptrs_in_encoder": True,
    "add_tpos_enc_to_obj_ptrs": True,
    "proj_tpos_enc_in_obj_ptrs": True,
    "use_signed_tpos_enc_to_obj_ptrs": True,
    "only_obj_ptrs_in_the_past_for_eval": True,
    "pred_obj_scores": True,
    "pred_obj_scores_mlp": True,
    "fixed_no_obj_ptr": True,
    "multimask_output_for_tracking": True,
    "use_multimask_token_for_obj_ptr": True,
    "multimask_min_pt_num": 0,
    "multimask_max_pt_num": 1,
    "use_mlp_for_obj_ptr_proj": True,
}


def nano_sam2_numbers(width: int = 128) -> dict[str, Any]:
    """SAM 2.1's numbers at a fortieth of its size; switches are those of the released SAM 2.1."""
    sine = {"normalize": True, "scale": None, "temperature": 10000}
    return _image_encoder(width, sine) | _memory(width, sine) | _SWITCHES


def _image_encoder(width: int, sine: dict[str, Any]) -> dict[str, Any]:
    return {
        "image_encoder": {
            "scalp": 1,
            "trunk": {
                "embed_dim": 32,
                "num_heads": 1,
                "stages": [1, 2, 4, 1],
                "global_att_blocks": [4, 6],
                "window_spec": [8, 4, 8, 8],
                "window_pos_embed_bkg_spatial_size": [8, 8],
            },
            "neck": {
                "position_encoding": {"num_pos_feats": width, **sine},
                "d_model": width,
                "backbone_channel_list": [256, 128, 64, 32],
                "fpn_top_down_levels": [2, 3],
                "fpn_interp_model": "nearest",
            },
        },
    }


def _memory(width: int, sine: dict[str, Any]) -> dict[str, Any]:
    attention = {"rope_theta": 10000.0, "embedding_dim": width, "num_heads": 1, "downsample_rate": 1, "dropout": 0.0}
    return {
        "memory_attention": {
            "d_model": width,
            "pos_enc_at_input": True,
            "layer": {
                "activation": "relu",
                "dim_feedforward": 512,
                "dropout": 0.0,
                "pos_enc_at_attn": False,
                "self_attention": dict(attention),
                "d_model": width,
                "pos_enc_at_cross_attn_keys": True,
                "pos_enc_at_cross_attn_queries": False,
                "cross_attention": {"rope_k_repeat": True, "kv_in_dim": 64, **attention},
            },
            "num_layers": 2,
        },
        "memory_encoder": {
            "in_dim": width,
            "out_dim": 64,
            "position_encoding": {"num_pos_feats": 64, **sine},
            "mask_downsampler": {"embed_dim": width, "kernel_size": 3, "stride": 2, "padding": 1},
            "fuser": {
                "layer": {
                    "dim": width,
                    "kernel_size": 7,
                    "padding": 3,
                    "layer_scale_init_value": 0.1,
                    "use_dwconv": True,
                },
                "num_layers": 2,
            },
        },
    }


def nano_config(vocab_size: int, token_ids: dict[str, int]) -> UniPixelConfig:
    """Nano's configuration for a tokenizer of `vocab_size` tokens; `token_ids` names the special ones."""
    return UniPixelConfig(
        text_config={
            "vocab_size": vocab_size,
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 4096,
            # Fast frequencies tell eight rows and columns apart; the slow ones, which all fall to the columns' share,
            # let a word find what it names at any distance.
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 4, 26]},
            "eos_token_id": token_ids["<|im_end|>"],
            "bos_token_id": None,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 6,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_heads": 6,
            "out_hidden_size": 256,
            "window_size": 112,
            "fullatt_block_indexes": [1, 3, 5],
            "tokens_per_second": 2,
        },
        tie_word_embeddings=True,
        image_token_id=token_ids["<|image_pad|>"],
        video_token_id=token_ids["<|video_pad|>"],
        vision_start_token_id=token_ids["<|vision_start|>"],
        vision_end_token_id=token_ids["<|vision_end|>"],
        ref_token_id=token_ids["<|ref|>"],
        seg_token_id=token_ids["<|seg|>"],
        mem_token_id=token_ids["<|mem|>"],
        sam2_config=nano_sam2_numbers(),
        sam2_image_size=NANO_SAM_SIDE,
        mem_feature_order="raster",
        prefill_frame="prompt",
        square_side=NANO_SIDE,
    )
