"""Which weights timm keeps on the Hugging Face hub for the networks that kcnn has too: `timm/NAME.TAG`.

Source: `default_cfgs` of the models of timm 1.0.31, those with an `hf_hub_id`, in timm's order. The first is what
`timm.create_model(NAME, pretrained=True)` takes. Of a network without tags the hub has no weights.

`tv_in1k` are torchvision's IMAGENET1K_V1 and `tv2_in1k` its IMAGENET1K_V2, converted: their `url` is its file.
For VGG and DenseNet timm gives no `url`; that of `inception_v3` is an earlier file of torchvision's.
"""

# timm's name → its tags, separated by spaces
TIMM_TAGS: dict[str, str] = {
    "convnext_base": (
        "fb_in22k_ft_in1k fb_in1k fb_in22k_ft_in1k_384 fb_in22k clip_laion2b_augreg_ft_in12k_in1k "
        "clip_laion2b_augreg_ft_in12k_in1k_384 clip_laion2b_augreg_ft_in1k "
        "clip_laiona_augreg_ft_in1k_384 clip_laion2b_augreg_ft_in12k clip_laion2b clip_laion2b_augreg "
        "clip_laiona clip_laiona_320 clip_laiona_augreg_320 dinov3_lvd1689m eupe_lvd1689m"
    ),
    "convnext_large": "fb_in22k_ft_in1k fb_in1k fb_in22k_ft_in1k_384 fb_in22k dinov3_lvd1689m",
    "convnext_small": (
        "in12k_ft_in1k in12k_ft_in1k_384 in12k fb_in22k_ft_in1k fb_in1k fb_in22k_ft_in1k_384 fb_in22k "
        "dinov3_lvd1689m eupe_lvd1689m"
    ),
    "convnext_tiny": (
        "in12k_ft_in1k in12k_ft_in1k_384 in12k fb_in22k_ft_in1k fb_in1k fb_in22k_ft_in1k_384 fb_in22k "
        "dinov3_lvd1689m eupe_lvd1689m"
    ),
    "convnext_xlarge": "fb_in22k_ft_in1k fb_in22k_ft_in1k_384 fb_in22k",
    "densenet121": "ra_in1k tv_in1k",
    "densenet161": "tv_in1k",
    "densenet169": "tv_in1k",
    "densenet201": "tv_in1k",
    "efficientnet_b0": "ra_in1k ra4_e3600_r224_in1k",
    "efficientnet_b1": "ra4_e3600_r240_in1k ft_in1k",
    "efficientnet_b2": "ra_in1k",
    "efficientnet_b3": "ra2_in1k",
    "efficientnet_b4": "ra2_in1k",
    "efficientnet_b5": "sw_in12k_ft_in1k sw_in12k",
    "efficientnet_b6": "",
    "efficientnet_b7": "",
    "efficientnet_lite0": "ra_in1k",
    "efficientnet_lite1": "",
    "efficientnet_lite2": "",
    "efficientnet_lite3": "",
    "efficientnet_lite4": "",
    "efficientnetv2_l": "",
    "efficientnetv2_m": "",
    "efficientnetv2_s": "",
    "inception_resnet_v2": "tf_in1k tf_ens_adv_in1k",
    "inception_v3": "tv_in1k tf_in1k tf_adv_in1k gluon_in1k",
    "inception_v4": "tf_in1k",
    "legacy_senet154": "",
    "legacy_seresnet101": "",
    "legacy_seresnet152": "",
    "legacy_seresnet18": "",
    "legacy_seresnet34": "",
    "legacy_seresnet50": "",
    "legacy_seresnext101_32x4d": "",
    "legacy_seresnext50_32x4d": "",
    "legacy_xception": "",
    "mobilenetv1_100": "ra4_e3600_r224_in1k",
    "mobilenetv2_035": "",
    "mobilenetv2_050": "lamb_in1k",
    "mobilenetv2_075": "",
    "mobilenetv2_100": "ra_in1k",
    "mobilenetv2_140": "ra_in1k",
    "mobilenetv3_large_075": "",
    "mobilenetv3_large_100": "ra_in1k ra4_e3600_r224_in1k miil_in21k_ft_in1k miil_in21k",
    "mobilenetv3_small_050": "lamb_in1k",
    "mobilenetv3_small_075": "lamb_in1k",
    "mobilenetv3_small_100": "lamb_in1k",
    "nasnetalarge": "tf_in1k",
    "resnet101": "a1h_in1k a1_in1k a2_in1k a3_in1k tv_in1k tv2_in1k gluon_in1k",
    "resnet152": "a1h_in1k a1_in1k a2_in1k a3_in1k tv_in1k tv2_in1k gluon_in1k",
    "resnet18": "a1_in1k a2_in1k a3_in1k tv_in1k fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k",
    "resnet34": "a1_in1k a2_in1k a3_in1k bt_in1k ra4_e3600_r224_in1k tv_in1k gluon_in1k",
    "resnet50": (
        "a1_in1k a1h_in1k a2_in1k a3_in1k b1k_in1k b2k_in1k c1_in1k c2_in1k d_in1k ram_in1k am_in1k "
        "ra_in1k bt_in1k tv_in1k tv2_in1k bamboo fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k"
    ),
    "resnetv2_101": "a1h_in1k",
    "resnetv2_152": "",
    "resnetv2_18": "ra4_e3600_r224_in1k",
    "resnetv2_34": "ra4_e3600_r224_in1k",
    "resnetv2_50": "a1h_in1k",
    "resnext101_32x4d": "fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k",
    "resnext101_32x8d": "tv_in1k tv2_in1k fb_wsl_ig1b_ft_in1k fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k",
    "resnext101_64x4d": "c1_in1k tv_in1k gluon_in1k",
    "resnext50_32x4d": (
        "a1h_in1k a1_in1k a2_in1k a3_in1k ra_in1k tv_in1k tv2_in1k fb_ssl_yfcc100m_ft_in1k "
        "fb_swsl_ig1b_ft_in1k gluon_in1k"
    ),
    "senet154": "gluon_in1k",
    "seresnet101": "",
    "seresnet152": "",
    "seresnet18": "",
    "seresnet34": "",
    "seresnet50": "a1_in1k a2_in1k a3_in1k ra2_in1k",
    "seresnext101_32x4d": "gluon_in1k",
    "seresnext50_32x4d": "racm_in1k gluon_in1k",
    "tf_efficientnet_b0": "ns_jft_in1k ap_in1k aa_in1k in1k",
    "tf_efficientnet_b1": "ns_jft_in1k ap_in1k aa_in1k in1k",
    "tf_efficientnet_b2": "ns_jft_in1k ap_in1k aa_in1k in1k",
    "tf_efficientnet_b3": "ns_jft_in1k ap_in1k aa_in1k in1k",
    "tf_efficientnet_b4": "ns_jft_in1k ap_in1k aa_in1k in1k",
    "tf_efficientnet_b5": "ns_jft_in1k ap_in1k ra_in1k aa_in1k in1k",
    "tf_efficientnet_b6": "ns_jft_in1k ap_in1k aa_in1k",
    "tf_efficientnet_b7": "ns_jft_in1k ap_in1k ra_in1k aa_in1k",
    "tf_efficientnet_lite0": "in1k",
    "tf_efficientnet_lite1": "in1k",
    "tf_efficientnet_lite2": "in1k",
    "tf_efficientnet_lite3": "in1k",
    "tf_efficientnet_lite4": "in1k",
    "tf_efficientnetv2_b0": "in1k",
    "tf_efficientnetv2_b1": "in1k",
    "tf_efficientnetv2_b2": "in1k",
    "tf_efficientnetv2_b3": "in21k_ft_in1k in1k in21k",
    "tf_efficientnetv2_l": "in21k_ft_in1k in1k in21k",
    "tf_efficientnetv2_m": "in21k_ft_in1k in1k in21k",
    "tf_efficientnetv2_s": "in21k_ft_in1k in1k in21k",
    "tf_mobilenetv3_large_075": "in1k",
    "tf_mobilenetv3_large_100": "in1k",
    "tf_mobilenetv3_large_minimal_100": "in1k",
    "tf_mobilenetv3_small_075": "in1k",
    "tf_mobilenetv3_small_100": "in1k",
    "tf_mobilenetv3_small_minimal_100": "in1k",
    "vgg11": "tv_in1k",
    "vgg11_bn": "tv_in1k",
    "vgg13": "tv_in1k",
    "vgg13_bn": "tv_in1k",
    "vgg16": "tv_in1k",
    "vgg16_bn": "tv_in1k",
    "vgg19": "tv_in1k",
    "vgg19_bn": "tv_in1k",
    "wide_resnet101_2": "tv_in1k tv2_in1k",
    "wide_resnet50_2": "racm_in1k tv_in1k tv2_in1k",
}
